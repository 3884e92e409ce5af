"""A prefill engine and a decode engine on a core each, and the acts of tests with them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from kvlease.metrics.scraped import Metrics
from proof.realengines.engine import Engine, EngineError
from proof.realengines.metrics import FENCE_CHECKS, LEASE_ENDS, RUNNING, WAITING
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import PREFILL_PARAMS, Answer, Prompt, Reference, Router, completion, open_client
from proof.realengines.spec import EngineSpec

T = TypeVar("T")

TERM_S = 9.0
"""The term of leases. A consumer that stands still for longer than an extension, which is 6 s of it, loses its leases
by design. A shared machine was seen to stand still for 3 s."""
RENEWALS_PER_TERM = 6
"""The number of renewals in a term, by the default interval."""
P_CORE, D_CORE = 0, 1
BLOCKS = 200
"""The number of P's blocks. It is small, so that two of the longest prompts need all of them."""
TOKENS = 8
BLOCKER_TOKENS = 7900
"""The tokens of an answer that keeps a seat: as many as the model's positions allow. It outlasts the prefills and two
terms, on a fast machine too."""
PATIENCE_S = 120.0
"""The bound of a pause: wide, and still far below the time of a pause that waits for a stall limit."""
UNFENCED_READS = "kvlease:unfenced_reads_total"

Counts = Mapping[str, float]

live_engines: list[Engine] = []
"""The engines of the test that runs now, for the account that a failure gives of them."""


@contextmanager
def running(*engines: Engine) -> Iterator[None]:
    """Starts the engines together, waits for all of them, and ends them whatever happens."""
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
    """The engines P and D, and the right answers, each of which P computes once and alone."""

    p: Engine
    d: Engine
    right: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict, repr=False)

    def play(self, scene: "Callable[[Scene], Coroutine[Any, Any, T]]") -> T:
        """Runs an async scene on these engines, and returns its result."""

        async def run() -> T:
            async with open_client() as client:
                return await scene(Scene(self, Router(client, self.p.url, self.d.url), client))

        return asyncio.run(run())

    def wait_drained(self, timeout_s: float = 60.0) -> None:
        self.p.wait_until(lambda: self.p.held_blocks() == 0, "drained", timeout_s)

    def wait_no_lease_out(self) -> None:
        """Waits until P has no lease out, and no slot in use but those of lapsed leases."""
        self.p.wait_for_metrics(
            lambda m: (
                m.value("kvlease:active_leases") == 0
                and m.value("kvlease:fence_slots_used") == m.value("kvlease:lapsed_leases")
            ),
            "without a lease, and a slot in use",
        )

    def lease_ends(self) -> dict[str, float]:
        """The number of P's leases that have ended since its start, by cause."""
        return self.p.metrics().by_label(LEASE_ENDS, "cause")

    def fence_checks(self) -> dict[str, float]:
        """The number of D's reads that were checked since its start, by verdict."""
        return self.d.metrics().by_label(FENCE_CHECKS, "verdict")

    def wait_lease_ends(self, before: Counts, **expected: int) -> None:
        """Waits until exactly these leases of P have ended since `before`, by cause."""
        _wait_for_counts(self.p, LEASE_ENDS, "cause", before, expected)

    @contextmanager
    def counting(self, ends: Counts | None = None, checks: Counts | None = None) -> Iterator[None]:
        """Asserts that exactly these leases end within, by cause, and exactly these reads are checked, by verdict.

        It waits for the counts: an engine may show its last step before it went idle late.
        """
        ended, checked = self.lease_ends(), self.fence_checks()
        yield
        if ends is not None:
            _wait_for_counts(self.p, LEASE_ENDS, "cause", ended, ends)
        if checks is not None:
            _wait_for_counts(self.d, FENCE_CHECKS, "verdict", checked, checks)

    def read_fresh(self, seed: int, count: int = 3, longest: int = 1500) -> None:
        """Asserts that prompts that are read at once are answered rightly, each under its fence, and leases released.

        Every worker of D checks the fences of a read.
        """
        checks = {"intact": count * self.d.spec.tensor_parallel_size}
        with self.counting(ends={"released": count}, checks=checks):
            self.play(lambda s: read_fresh(s, seed, count, longest))

    def read_late(self, seed: int) -> None:
        """Asserts that a prompt whose lease has expired is answered rightly, and not from blocks that others have."""

        async def scene(s: Scene) -> None:
            reference, answer = await read_late(s, seed)
            await s.check([reference], [answer])

        intact = self.fence_checks().get("intact", 0)
        with self.counting(ends={"expired": 1}):
            self.play(scene)
        late = self.fence_checks().get("intact", 0) - intact
        assert late == 0, f"{late} fences were intact after the lease had expired"


def running_pair(p: EngineSpec, d: EngineSpec, logs: Path) -> Iterator[Pair]:
    """Runs two engines of these specs as a pair, for as long as a fixture yields from it."""
    pair = Pair(Engine(p, logs), Engine(d, logs))
    with running(pair.p, pair.d):
        yield pair


def _wait_for_counts(engine: Engine, counter: str, label: str, before: Counts, expected: Counts) -> None:
    """Waits until the counts since `before` are as expected. Raises AssertionError with the counts that they are."""

    def since(metrics: Metrics) -> Counts:
        counted = Counter(metrics.by_label(counter, label))
        counted.subtract(before)
        return {name: count for name, count in counted.items() if count}

    try:
        engine.wait_for_metrics(lambda metrics: since(metrics) == expected, f"done with {counter}: {expected}")
    except EngineError:
        # Not from the error: it quotes the log at length, and the account of a failed test tells more in less.
        raise AssertionError(f"{counter}: {since(engine.metrics())} and not {expected}") from None


@dataclass
class Scene:
    """The acts of one test with a pair. It waits in threads, so that requests go on meanwhile."""

    pair: Pair
    router: Router
    client: httpx.AsyncClient

    async def right(self, prompt: str, tokens: int = TOKENS) -> tuple[int, ...]:
        """The tokens that P computes alone for this prompt."""
        known = self.pair.right.get((prompt, tokens))
        if known is None:
            answer = await self.router.compute_alone(self.pair.p.url, prompt, tokens)
            assert answer.status == 200, answer.body
            known = self.pair.right[prompt, tokens] = answer.token_ids
        return known

    async def prefill(self, prompts: list[str]) -> list[Reference]:
        return [await self.router.prefill(prompt) for prompt in prompts]

    async def hand_off(self, prompt: Prompt | None, n: int = 1, **fields: Any) -> Mapping[str, Any]:
        """Returns P's `kv_transfer_params` for a prompt of any kind, or a list of prompts."""
        payload = completion(prompt, max_tokens=1, n=n) | {"kv_transfer_params": dict(PREFILL_PARAMS)} | fields
        answer = await self.router.answer(self.pair.p.url, payload)
        assert answer.status == 200, answer.body
        params: Mapping[str, Any] = json.loads(answer.body)["kv_transfer_params"]
        return params

    async def use(self, prompt: Prompt | None, params: Mapping[str, Any], n: int = 1, **fields: Any) -> Answer:
        """Returns D's answer to a prompt of any kind with these params, whatever prompt they were made for."""
        payload = completion(prompt, TOKENS, n=n) | {"kv_transfer_params": dict(params)} | fields
        answer = await self.router.answer(self.pair.d.url, payload)
        assert answer.status == 200, answer.body
        return answer

    async def from_the_cache_of(self, engine: Engine, prompt: Prompt) -> Answer:
        """Returns one engine's answer by itself, for which it uses its prefix cache."""
        return await self.router.answer(engine.url, completion(prompt, TOKENS))

    async def check(self, references: list[Reference], answers: list[Answer]) -> None:
        """Asserts that every request has an answer, and that its token ids are right."""
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
        """Waits until P has heard as many renewals as it hears of one consumer in `terms` terms."""
        goal = _renewals(await self.told_by_p()) + terms * RENEWALS_PER_TERM
        deadline = time.monotonic() + PATIENCE_S
        while _renewals(await self.told_by_p()) < goal:
            assert time.monotonic() < deadline, f"P did not hear renewals for {terms:g} terms"

    async def told_by_p(self) -> Metrics:
        """P's figures after a step: an idle P with nothing to tell but renewals tells them seldom."""
        answer = await self.router.compute_alone(self.pair.p.url, "Tell", 1)
        assert answer.status == 200, answer.body
        return await asyncio.to_thread(self.pair.p.metrics)

    async def reuse_blocks(self) -> None:
        """Makes P write each of its free blocks for other prompts, of which its prefix cache has nothing.

        Without prefix caching vLLM takes the blocks first that were freed last, and those of lapsed leases only when
        many prompts need all memory at once.
        """
        for prompts, tokens in ((4, TOKENS), (16, 100)):
            drawn = draw_prompts(prompts * self.pair.p.spec.data_parallel_size, seed=95 + prompts, shortest=2990)
            for answer in await gather(self.router.compute_alone(self.pair.p.url, prompt, tokens) for prompt in drawn):
                assert answer.status == 200, answer.body
            if not self.pair.p.metrics().value("kvlease:lapsed_leases"):
                return

    @asynccontextmanager
    async def busy(self, engine: Engine, seats: int = 2) -> AsyncIterator[None]:
        """Keeps all of the engine's seats taken while it lasts, so that further requests wait in its queue."""
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

    @asynccontextmanager
    async def waiting_on_d(self, prompts: list[str]) -> AsyncIterator[None]:
        """Keeps a request for each prompt waiting in the queue of a busy D; all are answered rightly afterwards."""
        async with self.busy(self.pair.d):
            references = await self.prefill(prompts)
            decodes = [begin(self.router.decode(reference, TOKENS)) for reference in references]
            await self.wait_waiting(self.pair.d, len(prompts))
            yield
        await self.check(references, await gather(decodes))


def _renewals(metrics: Metrics) -> float:
    return metrics.value("kvlease:renewals_total", direction="received")


def begin(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    return asyncio.create_task(work)


async def post(engine: Engine, path: str, status: int = 200) -> httpx.Response:
    """Posts to an engine, as operators and trainers do; the answer may take as long as a pause that waits."""
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        response = await client.post(f"{engine.url}/{path}")
    assert response.status_code == status, response.text
    return response


async def gather(work: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*work))


async def read_fresh(s: Scene, seed: int, count: int = 3, longest: int = 1500) -> None:
    """Prefills prompts and reads each at once: answers are right, and P has its blocks back. (The causes,
    `Pair.lease_ends`, show that it did not wait for the term.)"""
    for prompt in draw_prompts(count, seed=seed, longest=longest):
        reference = await s.router.prefill(prompt)
        answer = await s.router.decode(reference, TOKENS)
        await s.wait_drained()
        await s.check([reference], [answer])


async def read_late(s: Scene, seed: int) -> tuple[Reference, Answer]:
    """Reads after the lease has expired and P has written all its blocks anew; returns the reference and the answer."""
    reference = await s.router.prefill(draw_prompts(1, seed=seed, shortest=1000)[0])
    await s.wait_drained()
    await s.reuse_blocks()
    return reference, await s.router.decode(reference, TOKENS)


async def wait_in_queue(s: Scene, seed: int, terms: float) -> None:
    """Lets requests wait for `terms` terms in the queue of a busy D; then they are read, and right."""
    async with s.waiting_on_d(draw_prompts(2, seed=seed, longest=800)):
        # A fixed time has to pass: a stock engine counts nothing that could be waited for instead.
        await asyncio.sleep(terms * TERM_S)
