"""Real engines with everything on that an operator can watch, beside the same with nothing on, in one run.

Two pairs of engines are up and take turns of some seconds with the same prompts; the other one is stopped meanwhile and
takes no processor time.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kvlease.up.model import build_model
from kvlease.up.ports import free_port
from proof.bench.engines.client import Block, ClientTraffic, answers, play
from proof.bench.engines.figures import TurnSample, sample_of
from proof.bench.engines.measure import BLOCKS, SEATS, TRAFFIC
from proof.bench.engines.pair import Pair, choose_bench_cores, pinned, started
from proof.bench.frame.errors import require
from proof.bench.frame.figures import Effort, Result
from proof.bench.frame.progress import say
from proof.bench.watched import books
from proof.bench.watched.figures import OFF, ON, SIDES, Heard, WatchedTurn, curves, goals, notes, rows
from proof.bench.watched.watchers import Collector, Told, collecting, watching
from proof.realengines.cores import Cores
from proof.realengines.engine import EngineError
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.spec import HOST, EngineSpec

_LISTEN = "kv_lease_listen"
_TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
"""The trace that every request belongs to, on both sides."""
_SEED, _WARM_UP_SEED = 7100, 7099


@dataclass(frozen=True)
class WatchedAmount:
    """The amount that is measured."""

    starts: int
    turns: int
    """Turns in each start of the engines."""
    traffic: ClientTraffic
    book_pairs: int
    book_leases: int


# Short prompts are the most leases a second, so the most that there is to tell.
AMOUNTS = {
    Effort.SHORT: WatchedAmount(1, 2, replace(TRAFFIC[0], requests=32), 3, 5_000),
    Effort.FULL: WatchedAmount(10, 2, replace(TRAFFIC[0], requests=48), 21, 10_000),
}


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on one core, EngineError where an engine or an answer fails, or where
    something that is on tells nothing."""
    require("grpc", "opentelemetry")
    cores, model, amount, heard = choose_bench_cores(), build_model("llama"), AMOUNTS[effort], Heard()
    with TemporaryDirectory(prefix="kvlease-watched-") as folder:
        say("the agents' own books, in turn")
        of_books = books.rows(amount.book_pairs, amount.book_leases, Path(folder) / "books")
        turns: list[WatchedTurn] = []
        for start in range(amount.starts):
            say(f"two pairs start ({start + 1} of {amount.starts})")
            events = Path(folder) / f"events-{start}"
            with collecting() as collector:
                turns += _Start(start, amount, events, collector, heard).turns(model, cores)
    return Result(
        name="watched",
        title="Engines with everything on that an operator can watch",
        rows=[*rows(turns), *of_books],
        goals=goals(turns),
        curves=curves(turns),
        sides=SIDES,
        notes=notes(turns, amount.traffic, heard),
    )


class _Start:
    """One start of both pairs, and the turns that they take."""

    def __init__(self, number: int, amount: WatchedAmount, events: Path, collector: Collector, heard: Heard) -> None:
        self._number = number
        self._amount = amount
        self._events = events
        self._collector = collector
        self._heard = heard

    def turns(self, model: Path, cores: Cores) -> list[WatchedTurn]:
        sides = SIDES if self._number % 2 == 0 else SIDES[::-1]
        with ExitStack() as life:
            engines = life.enter_context(started([spec for side in sides for spec in self._specs(side, model, cores)]))
            pairs = {side: Pair(*engines[2 * n : 2 * n + 2]) for n, side in enumerate(sides)}
            self._warm_up(pairs)
            turns = [self._turn(pairs, turn) for turn in range(self._amount.turns)]
        self._count_told()
        return turns

    def _specs(self, side: str, model: Path, cores: Cores) -> list[EngineSpec]:
        shared: dict[str, Any] = {"model": model, "connector": "kvlease", "num_blocks": BLOCKS, "max_num_seqs": SEATS}
        whose = side.split()[-1]

        def watched() -> dict[str, Any]:
            if side == OFF:
                return {}
            listener = f"{HOST}:{free_port(HOST)}"
            return {
                "extra_config": {_LISTEN: listener, "kv_lease_events": str(self._events)},
                "extra_env": {"VLLM_PLUGINS": "kvlease"},
                "extra_args": ("--otlp-traces-endpoint", self._collector.url),
            }

        return [
            pinned(cores, "kv_producer", name=f"{whose}-P", **shared, **watched()),
            pinned(cores, "kv_consumer", name=f"{whose}-D", **shared, **watched()),
        ]

    def _warm_up(self, pairs: dict[str, Pair]) -> None:
        """Lets the engines of each pair meet and compute everything once; then both pairs are stopped."""
        for pair in pairs.values():
            pair.pause()
        for side, pair in pairs.items():
            pair.resume()
            self._play(side, pair, self._prompts(_WARM_UP_SEED)[: self._amount.traffic.clients])
            pair.pause()

    def _turn(self, pairs: dict[str, Pair], turn: int) -> WatchedTurn:
        say(f"turn {turn + 1} of {self._amount.turns}")
        prompts = self._prompts(_SEED + self._number * self._amount.turns + turn)
        samples: dict[str, TurnSample] = {}
        said: dict[str, dict[str, tuple[int, ...]]] = {}
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            pair = pairs[side]
            pair.resume()
            samples[side], said[side] = self._sample(side, pair, prompts)
            pair.pause()
        different = sum(said[ON][prompt] != said[OFF][prompt] for prompt in prompts)
        return WatchedTurn(self._number, samples, different)

    def _sample(self, side: str, pair: Pair, prompts: Sequence[str]) -> tuple[TurnSample, dict[str, tuple[int, ...]]]:
        traffic = self._amount.traffic
        # A pair that was stopped has cold caches, and leases to settle, which are not to be measured.
        self._play(side, pair, prompts[: traffic.clients // 2])
        before = pair.processor_s()
        block = self._play(side, pair, prompts)
        producer_s, decoder_s = (now - then for now, then in zip(pair.processor_s(), before, strict=True))
        return sample_of(block, traffic.answer_tokens, (producer_s, decoder_s)), answers(block, traffic.answer_tokens)

    def _play(self, side: str, pair: Pair, prompts: Sequence[str]) -> Block:
        return asyncio.run(self._watched_play(side, pair, prompts))

    async def _watched_play(self, side: str, pair: Pair, prompts: Sequence[str]) -> Block:
        told = Told()
        async with AsyncExitStack() as life:
            if side == ON:
                listeners = [f"http://{engine.spec.extra_config[_LISTEN]}" for engine in pair.engines]
                await life.enter_async_context(watching([engine.url for engine in pair.engines], listeners, told))
            block = await play(pair.producer.url, pair.decoder.url, prompts, self._amount.traffic, _TRACED)
        self._heard.pages += told.pages
        self._heard.page_bytes += told.page_bytes
        self._heard.leases += len(prompts) if side == ON else 0
        return block

    def _prompts(self, seed: int) -> list[str]:
        return draw_equal_prompts(self._amount.traffic.requests, seed=seed, tokens=self._amount.traffic.prompt_tokens)

    def _count_told(self) -> None:
        """Counts what the engines of this start have told. Raises EngineError where something that is on told
        nothing."""
        events = sum(path.stat().st_size for path in self._events.glob("events-*"))
        spans = self._collector.bytes
        if not (events and spans and self._heard.pages):
            raise EngineError(f"not everything was on: {events} bytes of events, {spans} of spans")
        self._heard.event_bytes += events
        self._heard.span_bytes += spans
