"""Many streams at once through a router on one core, also while a decode engine dies among them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from kvlease.testing.http_engines import Behaviour, answer_to
from kvlease.testing.http_engines.toy_model import MODEL
from proof.load.engines import EngineProcess, engine_processes, processor_s, urls
from proof.load.outcome import StreamsRun
from proof.load.overhead import median_and_p99
from proof.load.routers import start_router
from proof.load.wire import WireAnswer, WireClient
from proof.realengines.cores import Cores
from proof.realengines.engine import pinned
from proof.realengines.routers import ROUTER_NAMES, RouterKind, StartedRouter

_DECODERS = 3
_PROMPT_BYTES = 400
_POLL_S = 0.05
_OURS_WITH_A_DEATH = ("--continue-streams",)
_WHY = 200


def measure_streams(
    kind: RouterKind,
    streams: int,
    tokens: int,
    token_s: float,
    cores: Cores,
    logs: Path,
    tell: Callable[[str], None],
    *,
    dies: bool,
) -> StreamsRun:
    """Begins so many streams at the same moment; with `dies`, a decode engine is killed among them."""
    tell(f"{ROUTER_NAMES[kind]}: {streams} streams{', and a decode engine dies' if dies else ''}")
    with ExitStack() as stack:
        engines = stack.enter_context(engine_processes(1, _DECODERS, cores.producer, logs))
        for engine in engines:
            engine.behave(Behaviour(token_s=token_s if engine.role == "decode" else 0.0))
        prefill, decode = urls(engines, "prefill"), urls(engines, "decode")
        ours = _OURS_WITH_A_DEATH if dies else ()
        router = start_router(kind, prefill, decode, cores.decoder, logs, stack, ours)
        stack.enter_context(pinned((cores.producer,)))
        before, began_at = processor_s(router.pid), time.monotonic()
        answers = asyncio.run(_play(router, streams, tokens, engines if dies else []))
        took_s = time.monotonic() - began_at
        cpu_s, memory_mb = processor_s(router.pid) - before, _memory_mb(router)
    right = [answer for prompt, answer in answers if answer.text == answer_to(prompt, tokens)]
    whys = Counter(
        (answer.why or "another text than the engines'")[:_WHY]
        for prompt, answer in answers
        if answer.text != answer_to(prompt, tokens)
    )
    firsts = [answer.first_s * 1000 for _, answer in answers if answer.first_s is not None]
    return StreamsRun(
        ROUTER_NAMES[kind],
        streams,
        tokens,
        token_s * 1000,
        dies,
        len(right),
        whys,
        took_s,
        median_and_p99(firsts or [0.0]),
        median_and_p99([answer.longest_gap_s * 1000 for _, answer in answers]),
        cpu_s,
        memory_mb,
    )


async def _play(
    router: StartedRouter, streams: int, tokens: int, mortal: Sequence[EngineProcess]
) -> list[tuple[str, WireAnswer]]:
    client = WireClient(router.url)

    async def stream(number: int) -> tuple[str, WireAnswer]:
        prompt = f"stream {number} ".ljust(_PROMPT_BYTES, ".")
        body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        return prompt, await client.ask(body)

    running = [asyncio.create_task(stream(number)) for number in range(streams)]
    if mortal:
        await _until_busy(mortal[-1], streams // (2 * _DECODERS))
        await asyncio.to_thread(mortal[-1].kill)
    answers = await asyncio.gather(*running)
    client.close()
    return answers


async def _until_busy(engine: EngineProcess, streams: int) -> None:
    """Waits until an engine has half its share of all streams: some of them have tokens then, and some none."""
    while await asyncio.to_thread(lambda: int(engine.books()["running"])) < streams:
        await asyncio.sleep(_POLL_S)


def _memory_mb(router: StartedRouter) -> float:
    return float(psutil.Process(router.pid).memory_info().rss) / 1e6
