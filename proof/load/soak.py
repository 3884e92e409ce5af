"""Steady traffic through a router for minutes, while engines are killed and started again."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kvlease.testing.http_engines import answer_to
from kvlease.testing.http_engines.toy_model import MODEL, rendered
from proof.load.engines import EngineProcess, engine_processes, processor_s, urls
from proof.load.outcome import SoakRun
from proof.load.routers import start_router
from proof.load.slope import growth_of
from proof.load.wire import COMPLETIONS, WireClient
from proof.realengines.cores import Cores
from proof.realengines.engine import pinned
from proof.realengines.routers import ROUTER_NAMES, RouterKind

CHATS = "/v1/chat/completions"
_CLIENTS = 12
_TERM_S = 10.0
_TOKEN_S = 0.01
_LONGEST = 40
"""The most tokens of an answer."""
_PAUSE_S = 0.1
"""The longest pause of a client between two requests."""
_BETWEEN_KILLS_S = 10.0
_DOWN_S = 2.0
"""The time for which a killed engine is down."""
_SAMPLE_S = 1.0
_WHY = 200


@dataclass(slots=True)
class _Soak:
    """The state of one run."""

    run: SoakRun
    engines: list[EngineProcess]
    chance: random.Random
    ends_at: float
    client: WireClient


def soak(kind: RouterKind, minutes: float, seed: int, cores: Cores, logs: Path, tell: Callable[[str], None]) -> SoakRun:
    """Runs for so many minutes, and then until all terms are over."""
    with ExitStack() as stack:
        options = {"term_s": _TERM_S, "token_s": _TOKEN_S}
        engines = stack.enter_context(engine_processes(2, 3, cores.producer, logs, **options))
        prefill, decode = urls(engines, "prefill"), urls(engines, "decode")
        router = start_router(kind, prefill, decode, cores.decoder, logs, stack, ours=("--continue-streams",))
        stack.enter_context(pinned((cores.producer,)))
        process, began_at = psutil.Process(router.pid), time.monotonic()
        before_s = processor_s(router.pid)
        state = _Soak(
            SoakRun(ROUTER_NAMES[kind], minutes),
            engines,
            random.Random(seed),
            began_at + 60 * minutes,
            WireClient(router.url),
        )
        asyncio.run(_play(state, process, began_at, tell))
        run = state.run
        run.router_cpu = (processor_s(router.pid) - before_s) / (time.monotonic() - began_at)
        for engine in engines:
            _close_books(run, engine, at_the_end=True)
    run.growth = growth_of([(at, kib) for at, kib in run.memory_kib if at <= 60 * minutes])
    return run


async def _play(state: _Soak, router: psutil.Process, began_at: float, tell: Callable[[str], None]) -> None:
    sampling = asyncio.create_task(_sample(state, router, began_at, tell))
    killing = asyncio.create_task(_kill_and_restart(state))
    await asyncio.gather(*(_client(state, number) for number in range(_CLIENTS)))
    await killing
    # A lease that nobody has read or released is over a term later, and its producer has counted it.
    await asyncio.sleep(_TERM_S + 1)
    sampling.cancel()
    state.client.close()


async def _client(state: _Soak, number: int) -> None:
    count = 0
    while time.monotonic() < state.ends_at:
        count += 1
        await _one(state, f"client {number} request {count} ")
        await asyncio.sleep(state.chance.uniform(0, _PAUSE_S))


async def _one(state: _Soak, prompt: str) -> None:
    """Asks once, a completion or a chat, whole or as a stream, and counts what came."""
    tokens = state.chance.randint(1, _LONGEST)
    prompt = prompt.ljust(state.chance.randint(30, 2000), ".")
    body: dict[str, Any] = {"model": MODEL, "temperature": 0, "stream": state.chance.random() < 0.7}
    if state.chance.random() < 0.5:
        path, right = COMPLETIONS, answer_to(prompt, tokens)
        body |= {"prompt": prompt, "max_tokens": tokens}
    else:
        messages = [{"role": "user", "content": prompt}]
        path, right = CHATS, answer_to(rendered(messages), tokens)
        body |= {"messages": messages, "max_completion_tokens": tokens}
    answer = await state.client.ask(body, path)
    if answer.text is None:
        state.run.fates["lost"] += 1
        state.run.whys[answer.why[:_WHY]] += 1
    else:
        state.run.fates["right" if answer.text == right else "wrong"] += 1


async def _kill_and_restart(state: _Soak) -> None:
    """Kills decode and prefill engines in turn, one at a time, and starts each again."""
    number = 0
    while time.monotonic() + _BETWEEN_KILLS_S < state.ends_at:
        await asyncio.sleep(_BETWEEN_KILLS_S - _DOWN_S)
        role = ("decode", "prefill")[number % 2]
        engine = state.chance.choice([each for each in state.engines if each.role == role])
        await asyncio.to_thread(_close_books, state.run, engine, at_the_end=False)
        await asyncio.to_thread(engine.kill)
        await asyncio.sleep(_DOWN_S)
        await asyncio.to_thread(engine.start)
        state.run.restarts[role] += 1
        number += 1


def _close_books(run: SoakRun, engine: EngineProcess, *, at_the_end: bool) -> None:
    """Adds up what an engine has counted. The leases that are out die with a producer that is killed."""
    books = engine.books()
    leases = dict(books["leases"])
    out = leases.pop("out")
    leases.pop("being_read")
    run.leases.update(leases)
    run.leases["gone with their producer"] += 0 if at_the_end else out
    run.left += out if at_the_end else 0
    run.reads.update(books["reads"])
    run.repeated += books["prefills"]["repeated"]


async def _sample(state: _Soak, router: psutil.Process, began_at: float, tell: Callable[[str], None]) -> None:
    while True:
        at = time.monotonic() - began_at
        state.run.memory_kib.append((round(at, 1), router.memory_info().rss / 1024))
        fates = ", ".join(f"{number} {fate}" for fate, number in sorted(state.run.fates.items()))
        tell(f"{at / 60:.1f} of {state.run.minutes:g} min: {fates}; {sum(state.run.restarts.values())} restarts")
        await asyncio.sleep(_SAMPLE_S)
