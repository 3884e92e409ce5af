"""A prefill engine and a decode engine on a core each, and what tests do with them."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import FENCE_CHECKS, LEASE_ENDS, RUNNING, WAITING, Metrics
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import PREFILL_PARAMS, Answer, Prompt, Reference, Router, completion, open_client
from proof.realengines.spec import EngineSpec

T = TypeVar("T")

TERM_S = 9.0
"""A consumer that stands still for longer than an extension, 6 s of these, has lost its leases, and rightly so. A
shared machine was seen to stand still for 3 s."""
RENEWALS_PER_TERM = 6
"""By the default interval."""
P_CORE, D_CORE = 0, 1
BLOCKS = 200
"""Small: two of the longest prompts go once through all of P's blocks."""
TOKENS = 8
BLOCKER_TOKENS = 7900
"""As many as the model's positions allow: they outlast the prefills and two terms, on a fast machine too."""
UNFENCED_READS = "kvlease:unfenced_reads_total"

Counts = Mapping[str, float]

live_engines: list[Engine] = []
"""Those of the tests that run now, for the account that a failure gives of them."""


@contextmanager
def running(*engines: Engine) -> Iterator[None]:
    """Start them together, wait for all; end them whatever happens."""
    try:
        live_engines.extend(engines)
        for engine in engines:
            engine.start()
        for engine in engines:
            engine.wait_ready()
        yield
    finally:
        for engine in engines:
            engine.kill()
            live_engines.remove(engine)


def producer(model: Path, **spec: Any) -> EngineSpec:
    settings: dict[str, Any] = {
        "name": "P",
        "connector": "kvlease",
        "cores": (P_CORE,),
        "num_blocks": BLOCKS,
        "extra_config": {"kv_lease_duration": TERM_S},
    }
    return EngineSpec(model=model, **({"role": "kv_producer"} | settings | spec))


def consumer(model: Path, **spec: Any) -> EngineSpec:
    settings: dict[str, Any] = {
        "name": "D",
        "connector": "kvlease",
        "cores": (D_CORE,),
        "max_num_seqs": 2,
        "max_model_len": 8192,
        "num_blocks": 600,
        "extra_config": {"kv_lease_duration": TERM_S},
    }
    return EngineSpec(model=model, **({"role": "kv_consumer"} | settings | spec))


@dataclass
class Pair:
    """P and D, and the right answers, which are computed once by P alone."""

    p: Engine
    d: Engine
    right: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict, repr=False)

    def play(self, scene: "Callable[[Scene], Coroutine[Any, Any, T]]") -> T:
        """Run an async scene on these engines, and return what it returns."""

        async def run() -> T:
            async with open_client() as client:
                return await scene(Scene(self, Router(client, self.p.url, self.d.url), client))

        return asyncio.run(run())

    def wait_drained(self, timeout_s: float = 60.0) -> None:
        self.p.wait_until(lambda: self.p.held_blocks() == 0, "drained", timeout_s)

    def wait_no_slot_used(self) -> None:
        """And no lease is out."""
        self.p.wait_for_metrics(
            lambda m: m.value("kvlease:fence_slots_used") == m.value("kvlease:active_leases") == 0,
            "without a lease and a slot in use",
        )

    def lease_ends(self) -> dict[str, float]:
        """Of P's leases since its start, by cause."""
        return self.p.metrics().by_label(LEASE_ENDS, "cause")

    def fence_checks(self) -> dict[str, float]:
        """Of D's reads since its start, by verdict."""
        return self.d.metrics().by_label(FENCE_CHECKS, "verdict")

    def wait_lease_ends(self, before: Counts, **expected: int) -> None:
        """Leases have ended since `before`: so many, of these causes, and no others."""
        _wait_for_counts(self.p, LEASE_ENDS, "cause", before, expected)

    @contextmanager
    def counting(self, ends: Counts | None = None, checks: Counts | None = None) -> Iterator[None]:
        """What happens within ends so many leases, by cause, and checks so many reads, by verdict, and no others.

        It is waited for: an engine may show the last step before it went idle late.
        """
        ended, checked = self.lease_ends(), self.fence_checks()
        yield
        if ends is not None:
            _wait_for_counts(self.p, LEASE_ENDS, "cause", ended, ends)
        if checks is not None:
            _wait_for_counts(self.d, FENCE_CHECKS, "verdict", checked, checks)


def _wait_for_counts(engine: Engine, counter: str, label: str, before: Counts, expected: Counts) -> None:
    """Wait until what was counted since `before` is what is expected. Fails with what it is instead."""

    def since(metrics: Metrics) -> Counts:
        counted = Counter(metrics.by_label(counter, label))
        counted.subtract(before)
        return {name: count for name, count in counted.items() if count}

    try:
        engine.wait_for_metrics(lambda metrics: since(metrics) == expected, f"done with {counter}: {expected}")
    except EngineError:
        # From None: the error quotes the log at length, and the account of a failed test tells more in less.
        raise AssertionError(f"{counter}: {since(engine.metrics())} and not {expected}") from None


@dataclass
class Scene:
    """One test's dealings with a pair. Waiting happens in threads, so that requests go on meanwhile."""

    pair: Pair
    router: Router
    client: httpx.AsyncClient

    async def right(self, prompt: str, tokens: int = TOKENS) -> tuple[int, ...]:
        """The tokens that P computes alone."""
        known = self.pair.right.get((prompt, tokens))
        if known is None:
            answer = await self.router.compute_alone(self.pair.p.url, prompt, tokens)
            assert answer.status == 200, answer.body
            known = self.pair.right[prompt, tokens] = answer.token_ids
        return known

    async def prefill(self, prompts: list[str]) -> list[Reference]:
        return [await self.router.prefill(prompt) for prompt in prompts]

    async def hand_off(self, prompt: Prompt | None, n: int = 1, **fields: Any) -> Mapping[str, Any]:
        """P's `kv_transfer_params` for a prompt of any kind, or a list of prompts."""
        payload = completion(prompt, max_tokens=1, n=n) | {"kv_transfer_params": dict(PREFILL_PARAMS)} | fields
        answer = await self.router.answer(self.pair.p.url, payload)
        assert answer.status == 200, answer.body
        params: Mapping[str, Any] = json.loads(answer.body)["kv_transfer_params"]
        return params

    async def use(self, prompt: Prompt | None, params: Mapping[str, Any], n: int = 1, **fields: Any) -> Answer:
        """D's answer to a prompt of any kind that comes with these params, whoever they were made for."""
        payload = completion(prompt, TOKENS, n=n) | {"kv_transfer_params": dict(params)} | fields
        answer = await self.router.answer(self.pair.d.url, payload)
        assert answer.status == 200, answer.body
        return answer

    async def from_the_cache_of(self, engine: Engine, prompt: Prompt) -> Answer:
        """What one engine answers by itself, from what it has in its prefix cache."""
        return await self.router.answer(engine.url, completion(prompt, TOKENS))

    async def check(self, references: list[Reference], answers: list[Answer]) -> None:
        """Every answer is there, and right by its token ids."""
        for reference, answer in zip(references, answers, strict=True):
            assert answer.status == 200, answer.body
            right = await self.right(reference.prompt)
            assert answer.token_ids == right, f"a wrong answer: {answer.token_ids} and not {right}"

    async def wait(
        self, engine: Engine, condition: Callable[[Metrics], bool], what: str, timeout_s: float = 60
    ) -> None:
        await asyncio.to_thread(engine.wait_for_metrics, condition, what, timeout_s)

    async def wait_waiting(self, engine: Engine, requests: int) -> None:
        await self.wait(engine, lambda m: m.value(WAITING) >= requests, f"busy ({requests} waiting)")

    async def wait_drained(self, timeout_s: float = 60.0) -> None:
        await asyncio.to_thread(self.pair.wait_drained, timeout_s)

    async def wait_lease_ends(self, before: Counts, **expected: int) -> None:
        await asyncio.to_thread(lambda: self.pair.wait_lease_ends(before, **expected))

    async def wait_renewed(self, terms: float) -> None:
        """P has heard as many renewals as it does in so many terms."""
        goal = _renewals(self.pair.p.metrics()) + terms * RENEWALS_PER_TERM
        await self.wait(self.pair.p, lambda m: _renewals(m) >= goal, f"renewed for {terms:g} terms")

    async def reuse_blocks(self) -> None:
        """Let P give its free blocks to somebody else, who finds nothing in its prefix cache: each block is written."""
        prompts = draw_prompts(4 * self.pair.p.spec.data_parallel_size, seed=99, shortest=2990)
        work = [self.router.compute_alone(self.pair.p.url, prompt, TOKENS) for prompt in prompts]
        for answer in await gather(work):
            assert answer.status == 200, answer.body

    @asynccontextmanager
    async def busy(self, engine: Engine, seats: int = 2) -> AsyncIterator[None]:
        """While it lasts, all of the engine's seats are taken and further requests wait in its queue."""
        blockers = [
            asyncio.create_task(self.router.compute_alone(engine.url, prompt, BLOCKER_TOKENS))
            for prompt in draw_prompts(seats, seed=7, shortest=200, longest=240)
        ]
        try:
            await self.wait(engine, lambda m: m.value(RUNNING) >= seats, f"running {seats} blockers")
            yield
        finally:
            for blocker in blockers:
                blocker.cancel()
            for blocker in blockers:
                with suppress(asyncio.CancelledError, httpx.TransportError):
                    await blocker


def _renewals(metrics: Metrics) -> float:
    return metrics.value("kvlease:renewals_total", direction="received")


def begin(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    return asyncio.create_task(work)


async def gather(work: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*work))


async def read_fresh(s: Scene, seed: int, count: int = 3, longest: int = 1500) -> None:
    """Prefill and read at once: right answers, and P has its blocks back. (That it did not wait for the term shows in
    the causes: `Pair.lease_ends`.)"""
    for prompt in draw_prompts(count, seed=seed, longest=longest):
        reference = await s.router.prefill(prompt)
        answer = await s.router.decode(reference, TOKENS)
        await s.wait_drained()
        await s.check([reference], [answer])


async def read_late(s: Scene, seed: int) -> tuple[Reference, Answer]:
    """Read after the lease has expired and P has given all its blocks to others."""
    reference = await s.router.prefill(draw_prompts(1, seed=seed, shortest=1000)[0])
    await s.wait_drained()
    await s.reuse_blocks()
    return reference, await s.router.decode(reference, TOKENS)


async def wait_in_queue(s: Scene, seed: int, terms: float) -> None:
    """Requests wait for so many terms in the queue of a busy D; then they are read, and right."""
    async with s.busy(s.pair.d):
        references = await s.prefill(draw_prompts(2, seed=seed, longest=800))
        decodes = [begin(s.router.decode(reference, TOKENS)) for reference in references]
        await s.wait_waiting(s.pair.d, 2)
        # It is the time that has to pass: a stock engine counts nothing that could be waited for instead.
        await asyncio.sleep(terms * TERM_S)
    await s.check(references, await gather(decodes))
