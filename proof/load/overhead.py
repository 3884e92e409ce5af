"""The time that a router adds to an answer: all of them in one run, block by block in turn, on one core."""

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvlease.testing.http_engines import Behaviour, answer_to
from kvlease.testing.http_engines.toy_model import MODEL
from proof.bench.frame.figures import Spread
from proof.load.engines import engine_processes, processor_s, urls
from proof.load.outcome import Latencies, OverheadRun
from proof.load.routers import DIRECT, start_router
from proof.load.wire import WireAnswer, WireClient, ask_both
from proof.realengines.cores import Cores
from proof.realengines.engine import pinned
from proof.realengines.routers import ROUTER_NAMES, RouterKind, StartedRouter

_PROMPT_BYTES = 400


@dataclass(frozen=True, slots=True)
class OverheadPlan:
    """A measurement at one number of requests at a time."""

    at_once: int
    tokens: int
    token_s: float
    blocks: int
    a_block: int
    """The answers of one router in a block."""


ALONE = OverheadPlan(at_once=1, tokens=16, token_s=0.002, blocks=50, a_block=10)
"""One request at a time, from engines that do little: 2 ms for a token, and for a prefill."""
BUSY = OverheadPlan(at_once=32, tokens=16, token_s=0.01, blocks=15, a_block=128)
"""The requests of 32 clients, with some 10 ms for a token, and for a prefill."""
SHORT_ALONE = OverheadPlan(at_once=1, tokens=16, token_s=0.002, blocks=6, a_block=10)
SHORT_BUSY = OverheadPlan(at_once=32, tokens=16, token_s=0.01, blocks=4, a_block=64)

Ask = Callable[[Mapping[str, Any]], Awaitable[WireAnswer]]


def measure_overhead(
    kinds: Sequence[RouterKind], plans: Sequence[OverheadPlan], cores: Cores, logs: Path, tell: Callable[[str], None]
) -> list[OverheadRun]:
    """Measures these routers, and the way without one; routers run on one core, engines and clients on the other."""
    with ExitStack() as stack:
        engines = stack.enter_context(engine_processes(1, 1, cores.producer, logs))
        prefill, decode = urls(engines, "prefill"), urls(engines, "decode")
        routers = {
            ROUTER_NAMES[kind]: start_router(kind, prefill, decode, cores.decoder, logs, stack) for kind in kinds
        }
        stack.enter_context(pinned((cores.producer,)))
        found = []
        for plan in plans:
            for engine in engines:
                engine.behave(Behaviour(token_s=plan.token_s))
            found.append(asyncio.run(_measure(routers, (prefill[0], decode[0]), plan, tell)))
        return found


async def _measure(
    routers: Mapping[str, StartedRouter],
    engines: tuple[str, str],
    plan: OverheadPlan,
    tell: Callable[[str], None],
) -> OverheadRun:
    names = [DIRECT, *routers]
    clients = {name: WireClient(router.url) for name, router in routers.items()}
    pids = {name: router.pid for name, router in routers.items()}
    cpu_s = dict.fromkeys(pids, 0.0)
    prefill, decode = WireClient(engines[0]), WireClient(engines[1])
    ways: dict[str, Ask] = {name: client.ask for name, client in clients.items()}
    ways[DIRECT] = lambda body: ask_both(prefill, decode, body)
    taken: dict[str, list[list[WireAnswer]]] = {name: [] for name in names}
    wrong = dict.fromkeys(names, 0)
    gc.collect()
    gc.freeze()
    # The first block warms up connections, and whatever else is made at first.
    for number in range(plan.blocks + 1):
        tell(f"{plan.at_once} at a time: block {number} of {plan.blocks}")
        for name in names[number % len(names) :] + names[: number % len(names)]:
            before_s = processor_s(pids[name]) if name in pids else 0.0
            block, mistakes = await _block(ways[name], plan, f"{name} {number}")
            if number:
                taken[name].append(block)
                wrong[name] += mistakes
                if name in pids:
                    cpu_s[name] += processor_s(pids[name]) - before_s
    for client in (*clients.values(), prefill, decode):
        client.close()
    found = [_latencies(name, taken[name], taken[DIRECT], wrong[name], cpu_s.get(name)) for name in names]
    return OverheadRun(plan.at_once, plan.tokens, plan.token_s * 1000, plan.blocks, found)


async def _block(ask: Ask, plan: OverheadPlan, name: str) -> tuple[list[WireAnswer], int]:
    """Returns the answers of one block, and how many were wrong."""
    prompts = iter([f"{name} {number} ".ljust(_PROMPT_BYTES, ".") for number in range(plan.a_block)])
    found: list[WireAnswer] = []
    wrong = 0

    async def client() -> None:
        nonlocal wrong
        for prompt in prompts:
            body = {"model": MODEL, "prompt": prompt, "max_tokens": plan.tokens, "temperature": 0, "stream": True}
            answer = await ask(body)
            wrong += answer.text != answer_to(prompt, plan.tokens)
            found.append(answer)

    await asyncio.gather(*(client() for _ in range(plan.at_once)))
    return found, wrong


def _latencies(
    name: str,
    blocks: Sequence[Sequence[WireAnswer]],
    direct: Sequence[Sequence[WireAnswer]],
    wrong: int,
    cpu_s: float | None,
) -> Latencies:
    answers = [answer for block in blocks for answer in block]
    found = Latencies(
        name,
        len(answers),
        wrong,
        median_and_p99([*map(_first_ms, answers)]),
        median_and_p99([*map(_whole_ms, answers)]),
        None if cpu_s is None else 1000 * cpu_s / len(answers),
    )
    if name == DIRECT:
        return found
    first, whole = _beside(blocks, direct, _first_ms), _beside(blocks, direct, _whole_ms)
    return replace(
        found,
        first_more_ms=Spread.of([through - without for through, without in first]),
        whole_more_ms=Spread.of([through - without for through, without in whole]),
        first_ratio=Spread.of([through / without for through, without in first]),
        whole_ratio=Spread.of([through / without for through, without in whole]),
    )


def _first_ms(answer: WireAnswer) -> float:
    return (answer.whole_s if answer.first_s is None else answer.first_s) * 1000


def _whole_ms(answer: WireAnswer) -> float:
    return answer.whole_s * 1000


def _beside(
    blocks: Sequence[Sequence[WireAnswer]],
    direct: Sequence[Sequence[WireAnswer]],
    of: Callable[[WireAnswer], float],
) -> list[tuple[float, float]]:
    """The medians of each block, with those of the same block without a router."""
    return [
        (statistics.median(map(of, through)), statistics.median(map(of, without)))
        for through, without in zip(blocks, direct, strict=True)
    ]


def median_and_p99(values: Sequence[float]) -> tuple[float, float]:
    """Returns the median and the 99th percentile; of fewer than a hundred values, the largest."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
