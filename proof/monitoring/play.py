"""Scenes on real engines that a Prometheus looks at: traffic through a prefill and a decode engine, and one fault."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from kvlease.console.progress import Story
from proof.monitoring.client import PrometheusClient
from proof.monitoring.draw import Mark
from proof.monitoring.screen import Period
from proof.monitoring.server import prometheus
from proof.realengines.cores import choose_cores
from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import PrefillError, Router, open_client
from proof.realengines.spec import EngineSpec

TERM_S = 9.0
SCRAPE_S = 1.0
CALM_S = 20.0
"""The time before a fault, and after its end."""
STALL_S = 14.0
"""Longer than leases live without a renewal, which is two thirds of a term, and than a term."""
DRAIN_WAIT_S = 60

_CLIENTS = 8
"""The number of requests at a time: D has seats for fewer, and the others wait there with their leases."""
_QUEUED = 4
_AFTER_A_FAILURE_S = 1.0
_P_ALONE_EVERY_S = 0.5
_ANSWER_TOKENS = 300
_LONGEST = 1200
_SEED = 1913
_PRODUCER_BLOCKS, _DECODER_BLOCKS = 300, 300
_DECODER_SEATS = 2
_PATIENCE_S = 60.0


@dataclass
class ScenePlay:
    """The engines, what goes through them, and what happened when."""

    p: Engine
    d: Engine
    router: Router
    client: httpx.AsyncClient
    story: Story
    marks: list[Mark] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while clients send: a router sends nothing while it has no decode engine."""

    def __post_init__(self) -> None:
        self.open.set()

    def mark(self, what: str) -> None:
        """Notes that something happens now."""
        self.marks.append(Mark(time.time(), what))
        self.story.say(what)

    async def queue_up(self) -> None:
        """Waits until several leases are claimed and not read yet: a fault shows best then."""
        await asyncio.to_thread(
            self.p.wait_for_metrics, lambda m: m.value("kvlease:claimed_leases") >= _QUEUED, "waited for by D's queue"
        )

    async def kill_decoder(self) -> None:
        """Kills D, as a crash. Clients notice, and send nothing until there is another one."""
        self.open.clear()
        self.mark("D killed")
        await asyncio.to_thread(self.d.kill)


Scene = Callable[[ScenePlay], Awaitable[None]]


async def crash(play: ScenePlay) -> None:
    """D dies with requests in its queue; another one is started in its place."""
    await asyncio.sleep(CALM_S)
    await play.queue_up()
    await play.kill_decoder()
    await asyncio.sleep(CALM_S / 2)
    await asyncio.to_thread(play.d.start)
    await asyncio.to_thread(play.d.wait_ready)
    play.open.set()
    play.mark("D is back")
    await asyncio.sleep(CALM_S)


async def stall(play: ScenePlay) -> None:
    """All of D stands still for longer than its leases live, and goes on."""
    await asyncio.sleep(CALM_S)
    await play.queue_up()
    play.d.pause()
    play.mark("D stands still")
    await asyncio.sleep(STALL_S)
    play.d.resume()
    play.mark("D goes on")
    await asyncio.sleep(CALM_S)


async def drain(play: ScenePlay) -> None:
    """P is told to grant no new leases, and answers when those that are out are read."""
    await asyncio.sleep(CALM_S)
    play.mark("drain asked")
    url = f"{play.p.url}/v1/kvlease/drain"
    response = await play.client.post(url, params={"wait": DRAIN_WAIT_S})
    response.raise_for_status()
    play.mark("drained")
    await asyncio.sleep(CALM_S / 2)


SCENES: Mapping[str, Scene] = {"crash": crash, "stall": stall, "drain": drain}


@dataclass(frozen=True)
class Played:
    """A Prometheus that still runs, and the scene that it has seen."""

    client: PrometheusClient
    period: Period
    marks: tuple[Mark, ...]


@asynccontextmanager
async def played(scene: Scene, model: Path, folder: Path, story: Story) -> AsyncIterator[Played]:
    """Plays a scene with a Prometheus looking; it can be asked until left. Logs are in `folder`.

    Raises EngineError and NoPrometheus where one of them does not start.
    """
    p, d = _engines(model, folder)
    addresses = {engine.spec.name: f"{engine.spec.host}:{engine.http_port}" for engine in (p, d)}
    with p, d:
        with story.busy("the engines start"):
            for engine in (p, d):
                await asyncio.to_thread(engine.wait_ready)
        async with open_client(_PATIENCE_S) as client:
            play = ScenePlay(p, d, Router(client, p.url, d.url), client, story)
            with prometheus(addresses, folder / "prometheus", SCRAPE_S) as asked:
                await asyncio.to_thread(asked.wait_up, len(addresses))
                start = time.time()
                async with _traffic(play):
                    await scene(play)
                yield Played(asked, Period(start, time.time(), SCRAPE_S), tuple(play.marks))


def _engines(model: Path, logs: Path) -> tuple[Engine, Engine]:
    settings, cores = {"kv_lease_duration": TERM_S}, choose_cores()
    p = EngineSpec(
        name="P",
        model=model,
        role="kv_producer",
        connector="kvlease",
        extra_config=settings,
        num_blocks=_PRODUCER_BLOCKS,
        cores=(cores.producer,),
        # Its routes under /v1/kvlease.
        extra_env={"VLLM_PLUGINS": "kvlease"},
    )
    d = EngineSpec(
        name="D",
        model=model,
        role="kv_consumer",
        connector="kvlease",
        extra_config=settings,
        num_blocks=_DECODER_BLOCKS,
        max_num_seqs=_DECODER_SEATS,
        cores=(cores.decoder,),
    )
    return Engine(p, logs), Engine(d, logs)


@asynccontextmanager
async def _traffic(play: ScenePlay) -> AsyncIterator[None]:
    """Sends requests through both engines until left, whatever becomes of them."""
    clients = [asyncio.create_task(_ask(play, number)) for number in range(_CLIENTS)]
    clients.append(asyncio.create_task(_ask_p_alone(play)))
    try:
        yield
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _ask(play: ScenePlay, number: int) -> None:
    """Sends one request after the other, while D is there to answer."""
    for turn in itertools.count():
        # Each seed's begin with its number, so that no prefix cache has them.
        (prompt,) = draw_prompts(1, seed=_SEED + number + turn * _CLIENTS, longest=_LONGEST)
        await play.open.wait()
        try:
            reference = await play.router.prefill(prompt)
            await play.router.decode(reference, _ANSWER_TOKENS)
        except (httpx.TransportError, PrefillError):
            await asyncio.sleep(_AFTER_A_FAILURE_S)


async def _ask_p_alone(play: ScenePlay) -> None:
    """Gives P work of its own: it tells its figures in engine steps, and takes none while its only D stands still."""
    while True:
        await play.router.compute_alone(play.p.url, "A short one.", 1)
        await asyncio.sleep(_P_ALONE_EVERY_S)
