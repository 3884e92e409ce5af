"""Small engines compute prompts in pieces, preempt requests for want of blocks, and end while leases are out."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import (
    TERM_S,
    Pair,
    Scene,
    begin,
    consumer,
    gather,
    producer,
    read_fresh,
    read_late,
    running_pair,
)

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]

BLOCKS = 97
PIECE_TOKENS = 160
PREEMPTIONS = "vllm:num_preemptions_total"
LONG = 256
DRAINING = "[shutdown] EngineCore: start mode=drain"
"""The line that vLLM's engine core logs when it is told to end."""
ENDING = "request processing complete"
"""The line that it logs when no request keeps it any more."""


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    small = {
        "num_blocks": BLOCKS,
        "max_model_len": 3040,
        "max_num_seqs": 4,
        "extra_args": ("--max-num-batched-tokens", str(PIECE_TOKENS), "--shutdown-timeout", "60"),
    }
    yield from running_pair(producer(model, name="P-narrow", **small), consumer(model, name="D-narrow", **small), logs)


def test_prompts_computed_in_pieces_are_read(pair: Pair) -> None:
    """P offers its blocks when the last piece of a prefill is done; D computes a late prompt again in pieces."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=220, count=2, longest=2000)
        late, answer = await read_late(s, seed=221)
        await s.check([late], [answer])

    with pair.counting(ends={"released": 2, "expired": 1}):
        intact = pair.fence_checks().get("intact", 0)
        pair.play(scene)
    assert pair.fence_checks().get("intact", 0) == intact + 2


def test_requests_are_preempted_on_either_side(pair: Pair) -> None:
    """P preempts requests of its own beside leases that are out (`tests/engine/test_producer.py` preempts a prefill); D
    computes a request that it preempts after its read again."""

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(4, seed=222, shortest=900, longest=1000)
        right = [await s.right(prompt, LONG) for prompt in prompts]

        async def whole(prompt: str) -> tuple[int, ...]:
            return (await s.router.decode(await s.router.prefill(prompt), LONG)).token_ids

        own = [begin(s.router.compute_alone(pair.p.url, prompt, LONG)) for prompt in prompts[:3]]
        answers = await gather([whole(prompt) for prompt in prompts])
        assert answers == right
        assert [answer.token_ids for answer in await gather(own)] == right[:3]

    preempted = [engine.metrics().value(PREEMPTIONS) for engine in (pair.p, pair.d)]
    with pair.counting(ends={"released": 4}):
        pair.play(scene)
    assert pair.p.metrics().value(PREEMPTIONS) > preempted[0]
    assert pair.d.metrics().value(PREEMPTIONS) > preempted[1]
    pair.wait_no_lease_out()


def test_a_producer_that_is_told_to_end_stays_for_its_leases(pair: Pair) -> None:
    """P, told to end by SIGTERM with `--shutdown-timeout` and two leases out, leaves when D has read one and the other
    has expired, and not before."""

    async def scene(s: Scene) -> bool:
        prompts = draw_prompts(2, seed=223, shortest=600, longest=800)
        right = await s.right(prompts[0], 8)
        intact = pair.fence_checks().get("intact", 0)
        began = time.monotonic()
        reference, _unread = await s.prefill(prompts)
        ending = begin(asyncio.to_thread(pair.p.terminate, 60))
        await asyncio.to_thread(pair.p.wait_until, lambda: DRAINING in pair.p.log_path.read_text(), "told to end")
        await asyncio.sleep(1)  # A fixed time has to pass.
        assert ENDING not in pair.p.log_path.read_text()
        answer = await s.router.decode(reference, 8)
        assert answer.token_ids == right
        assert pair.fence_checks().get("intact", 0) == intact + 1
        by_itself = await ending
        assert time.monotonic() - began >= TERM_S, "it left before its other lease was over"
        return by_itself

    assert pair.play(scene), "something had to be killed"
