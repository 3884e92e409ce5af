"""The order of events: engines start, each round brings its fault and its requests, and everything is looked at."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from kvlease.console.progress import Story
from proof.chaos.faults import befall
from proof.chaos.leftovers import gauges_at_rest, left_behind, shared_memory
from proof.chaos.outcome import Leftovers, RequestOutcome, RoundOutcome, Run
from proof.chaos.scene import DECODER_NAMES, PRODUCER, Scene, Setup, make_engines
from proof.chaos.schedule import LEAD_S, ChaosFault, Memory, Round, Schedule
from proof.chaos.sentences import of_round
from proof.chaos.traffic import ChaosTraffic
from proof.realengines.cores import choose_cores
from proof.realengines.network import Network
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import open_client
from proof.realengines.spec import Connector

MARGIN_S = 10.0
"""The time that is allowed on top of the longest deadline of a lease, the term: a tick of the agent, one step of P (a
second, with 200 blocks of prompts on one core), one reading of /metrics, and a machine that stands still for some
seconds."""
WAIT_S = 90.0
"""The time for which late blocks are waited for after that, so that they are not counted in the next round again."""

_PROMPT_SEED = 7341
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True)
class ChaosSettings:
    """The model to play with, the directory of the engines' logs, and how full P's memory is."""

    model: Path
    logs: Path
    memory: Memory = "full"


async def play(connector: Connector, schedule: Schedule, settings: ChaosSettings, story: Story) -> Run:
    """Plays the schedule with one connector. Raises EngineError where it cannot go on.

    Any end of this (an error, Ctrl-C) ends the engines and removes the network, too.
    """
    story.title(f"{connector}: {len(schedule.rounds)} faults, seed {schedule.seed}")
    began = time.monotonic()
    mark = f"{os.getpid()}-{connector}"
    memory_before = shared_memory()
    namespaces: list[str] = []
    with ExitStack() as life:
        sockets = Path(tempfile.mkdtemp(prefix="kvlease-chaos-"))
        life.callback(shutil.rmtree, sockets, ignore_errors=True)
        network = life.enter_context(Network([PRODUCER, *DECODER_NAMES])) if schedule.network else None
        namespaces = network.namespaces if network else []
        setup = Setup(
            connector=connector,
            model=settings.model,
            logs=settings.logs,
            sockets=sockets,
            cores=choose_cores(),
            mark=mark,
            memory=settings.memory,
        )
        run = await _Play(schedule, setup, network, story, life).whole()
    leftovers = run.leftovers
    leftovers = left_behind(dict(leftovers.gauges), list(leftovers.killed), mark, memory_before, namespaces)
    return replace(run, leftovers=leftovers, took_s=round(time.monotonic() - began, 1))


class _Play:
    """The play of one connector."""

    def __init__(
        self, schedule: Schedule, setup: Setup, network: Network | None, story: Story, life: ExitStack
    ) -> None:
        self._schedule = schedule
        self._setup = setup
        self._network = network
        self._story = story
        self._life = life

    async def whole(self) -> Run:
        first_term_s = self._schedule.rounds[0].term_s
        producer, decoders = make_engines(self._setup, self._network, first_term_s, self._life)
        sockets = {e.url: e.spec.http_socket for e in (producer, *decoders) if e.spec.http_socket}
        async with open_client(sockets=sockets) as client:
            scene = Scene(producer, decoders, self._network, client, self._story)
            with self._story.busy(f"three vLLM engines are starting (term {first_term_s} s)"):
                await scene.start(*scene.engines)
            prompts = draw_prompts(self._schedule.prompts, seed=_PROMPT_SEED)
            traffic = ChaosTraffic(scene, prompts, self._setup.memory)
            with self._story.busy(f"P computes the right answers to {len(prompts)} prompts"):
                await traffic.learn_right_answers()
            rounds = [await self._round(scene, traffic, which) for which in self._schedule.rounds]
            leftovers = await self._end(scene)
        return Run(
            connector=self._setup.connector,
            schedule=self._schedule,
            rounds=rounds,
            memory=self._setup.memory,
            counts=dict(scene.counts),
            leftovers=leftovers,
        )

    async def _round(self, scene: Scene, traffic: ChaosTraffic, which: Round) -> RoundOutcome:
        fault = which.fault
        with self._story.busy(f"{fault.number:2} of {len(self._schedule.rounds)}  {describe(fault)}"):
            around = [traffic.send(request, request.at_s) for request in which.requests if request.client != "after"]
            try:
                await asyncio.sleep(LEAD_S)
                began_s = scene.now_s()
                fills = await befall(scene, traffic, fault)
                ended_s = scene.now_s()
                requests = list(await asyncio.gather(*around))
            finally:
                for task in around:
                    task.cancel()
            died = [engine.spec.name for engine in await scene.sick()]
            await self._replace(scene, died)
            bound_s = which.final_term_s + MARGIN_S
            free_s, stranded = await wait_free(scene, bound_s)
            requests += await self._after(traffic, which)
        outcome = RoundOutcome(
            round=which,
            began_s=round(began_s, 2),
            ended_s=round(ended_s, 2),
            free_s=free_s,
            bound_s=bound_s,
            stranded=stranded,
            died=died,
            requests=requests,
            fills=fills,
        )
        self._story.say(of_round(outcome))
        return outcome

    async def _after(self, traffic: ChaosTraffic, which: Round) -> list[RequestOutcome]:
        after = [traffic.send(request) for request in which.requests if request.client == "after"]
        try:
            return list(await asyncio.gather(*after))
        finally:
            for task in after:
                task.cancel()

    async def _replace(self, scene: Scene, died: Sequence[str]) -> None:
        """Starts engines in place of those that died, so that the run goes on."""
        for engine in scene.engines:
            if engine.spec.name in died:
                await scene.end(engine, gracefully=False)
                await scene.start(engine)

    async def _end(self, scene: Scene) -> Leftovers:
        gauges: dict[str, float] = {}
        if self._setup.connector == "kvlease":
            with self._story.busy("all is over: leases, slots of the fence and sessions are to go"):
                gauges = await gauges_at_rest(scene)
        with self._story.busy("the engines end"):
            for engine in scene.engines:
                await scene.count(engine)
            ended = [(engine.spec.name, await scene.end(engine, gracefully=True)) for engine in scene.engines]
        return Leftovers(gauges=gauges, killed=[name for name, by_itself in ended if not by_itself])


async def wait_free(scene: Scene, bound_s: float) -> tuple[float | None, int]:
    """Waits until P's blocks are free; returns the time that took (s; None: too long), and how many were late."""
    began = time.monotonic()
    stranded = 0
    while True:
        asked = time.monotonic()
        held = await scene.held_blocks()
        if held == 0:
            return round(time.monotonic() - began, 2), stranded
        if asked > began + bound_s and held and not stranded:
            stranded = held
        if asked > began + bound_s + WAIT_S:
            return None, stranded
        await asyncio.sleep(_LOOK_EVERY_S)


def describe(fault: ChaosFault) -> str:
    """Describes a fault, with what was drawn for it."""
    particulars = {
        "kill-d": "with its clients" if fault.takes_clients else "",
        "kill-p": f"term {fault.next_term_s} s then",
        "restart-p": f"term {fault.next_term_s} s then",
        "cut-one-way": f"{fault.way} d{fault.decoder + 1}",
        "loss": f"{fault.loss:.1%}",
        "slow": f"{fault.kbit_per_s / 1000:g} Mbit/s",
    }
    of = "" if fault.kind in ("kill-p", "restart-p", "stop-p", "abort-all") else f" d{fault.decoder + 1}"
    parts = [f"{fault.kind}{of}", f"{fault.lasts_s:g} s", particulars.get(fault.kind, "")]
    return ", ".join(part for part in parts if part)
