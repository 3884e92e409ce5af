"""Real vLLM engines under the same traffic, stock against kvlease: throughput, time to first token, time per token.

Three pairs of engines are up: stock, stock once more, and kvlease. They take turns of some seconds, with the same
prompts; the others are stopped meanwhile and take no processor time. Stock against stock is the floor of the noise:
two pairs of the same engines differ by nothing but chance.
"""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvlease.up.model import build_model
from proof.bench.engines.client import Block, ClientTraffic, answers, play
from proof.bench.engines.figures import (
    AGAIN,
    ARMS,
    OURS,
    STOCK,
    Turn,
    TurnSample,
    curves,
    describe_answers,
    goals,
    rows,
    sample_of,
)
from proof.bench.engines.pair import Pair, choose_bench_cores, pinned, started
from proof.bench.frame.figures import Effort, Result
from proof.bench.frame.progress import say
from proof.realengines.cores import Cores
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.spec import Connector, EngineSpec

TRAFFIC = (
    ClientTraffic("short prompts (256 tokens, answers 32)", 256, 32, clients=8, requests=32),
    ClientTraffic("long answers (512 tokens, answers 96)", 512, 96, clients=8, requests=20),
    ClientTraffic("long prompts (2,500 tokens, answers 16)", 2500, 16, clients=4, requests=10),
)
"""The kinds of traffic: D and P limit the first by turns, D the second, P the third."""
BLOCKS = 480
SEATS = 16
_CONNECTORS: dict[str, Connector] = {STOCK: "stock", AGAIN: "stock", OURS: "kvlease"}
_ORDERS = tuple(itertools.permutations(ARMS))
_SEED = 7000
_WARM_UP_SEED = 6999


@dataclass(frozen=True)
class TrafficAmount:
    """The amount that is measured: engines are started so often anew, each time for a turn of each traffic."""

    starts: int
    traffic: Sequence[ClientTraffic]


def amount(effort: Effort) -> TrafficAmount:
    """FULL takes about a quarter of an hour. Every order of the three arms comes equally often, in turns and starts."""
    if effort is Effort.FULL:
        return TrafficAmount(starts=len(_ORDERS), traffic=TRAFFIC)
    fewer = [replace(traffic, requests=max(traffic.clients, traffic.requests // 2)) for traffic in TRAFFIC]
    return TrafficAmount(starts=1, traffic=fewer)


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on a machine of one core, EngineError where an engine or an answer fails."""
    cores, model, todo = choose_bench_cores(), build_model("llama"), amount(effort)
    turns = [turn for start in range(todo.starts) for turn in _one_start(start, todo, model, cores)]
    return Result(
        name="engines",
        title="Real engines under the same traffic",
        rows=rows(turns),
        goals=goals(turns),
        curves=curves(turns),
        notes=_notes(todo, turns),
    )


def _one_start(start: int, todo: TrafficAmount, model: Path, cores: Cores) -> list[Turn]:
    say(f"engines: three pairs start ({start + 1} of {todo.starts})")
    with ExitStack() as life:
        arms = _ORDERS[start % len(_ORDERS)]
        engines = life.enter_context(started([spec for arm in arms for spec in _specs(arm, model, cores)]))
        pairs = {arm: Pair(*engines[2 * n : 2 * n + 2]) for n, arm in enumerate(arms)}
        _warm_up(pairs, todo.traffic)
        turns: list[Turn] = []
        for kind, traffic in enumerate(todo.traffic):
            say(f"engines: turn {kind + 1} of {len(todo.traffic)}: {traffic.name}")
            # Each turn has another order, and other prompts.
            order = _ORDERS[(kind + start) % len(_ORDERS)]
            turns.append(_turn(start, pairs, order, traffic, seed=_SEED + start))
        return turns


def _specs(arm: str, model: Path, cores: Cores) -> list[EngineSpec]:
    whose = arm.replace(" ", "-")
    shared: dict[str, Any] = {
        "model": model,
        "connector": _CONNECTORS[arm],
        "num_blocks": BLOCKS,
        "max_num_seqs": SEATS,
    }
    return [
        pinned(cores, "kv_producer", name=f"{whose}-P", **shared),
        pinned(cores, "kv_consumer", name=f"{whose}-D", **shared),
    ]


def _warm_up(pairs: dict[str, Pair], traffic: Sequence[ClientTraffic]) -> None:
    """Lets the engines of each pair meet and compute everything once; then all pairs are stopped."""
    for pair in pairs.values():
        pair.pause()
    for pair in pairs.values():
        pair.resume()
        for kind in traffic:
            _play(pair, kind, _prompts(kind, _WARM_UP_SEED)[: kind.clients])
        pair.pause()


def _turn(start: int, pairs: dict[str, Pair], order: Sequence[str], traffic: ClientTraffic, seed: int) -> Turn:
    prompts = _prompts(traffic, seed)
    samples: dict[str, TurnSample] = {}
    said: dict[str, dict[str, tuple[int, ...]]] = {}
    for arm in order:
        pair = pairs[arm]
        pair.resume()
        # A pair that was stopped has cold caches, and leases to settle, which are not to be measured.
        _play(pair, traffic, prompts[: traffic.clients // 2])
        producer_s, decoder_s = pair.processor_s()
        block = _play(pair, traffic, prompts)
        producer_then_s, decoder_then_s = pair.processor_s()
        took_s = producer_then_s - producer_s, decoder_then_s - decoder_s
        samples[arm] = sample_of(block, traffic.answer_tokens, took_s)
        pair.pause()
        said[arm] = answers(block, traffic.answer_tokens)
    different = {arm: sum(found[prompt] != said[STOCK][prompt] for prompt in found) for arm, found in said.items()}
    return Turn(start, traffic, samples, different)


def _prompts(traffic: ClientTraffic, seed: int) -> list[str]:
    return draw_equal_prompts(traffic.requests, seed=seed, tokens=traffic.prompt_tokens)


def _play(pair: Pair, traffic: ClientTraffic, prompts: Sequence[str]) -> Block:
    return asyncio.run(play(pair.producer.url, pair.decoder.url, prompts, traffic))


def _notes(todo: TrafficAmount, turns: Sequence[Turn]) -> list[str]:
    return [
        f"{len(turns)} turns; in each, all three pairs answer the same prompts, in changing order, in a closed loop. "
        f"Ratios are within a turn. {describe_answers(turns)}",
        f"Engines were started {todo.starts} times, in changing order: two pairs of the same engines differ by some "
        "per cent for as long as they live, by where their memory happens to lie, and turns do not average that out. "
        "So the goals go by the medians of the starts, and stock against stock shows what chance does.",
        "The client is one process on whichever of the two cores is free; it takes about 5 % of one.",
        "Processor time is that of all processes of an engine, its API server included. vLLM's P makes a step every "
        "millisecond or so for as long as it holds blocks, so not all of it is work.",
        "NIXL's progress threads and vLLM's waiting processes sleep (0010), for all three pairs alike.",
    ]
