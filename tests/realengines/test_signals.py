"""R38: the signs that stock's operators watch go on counting, and what kvlease cannot guard is told."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.metrics import STOCK_EXPIRED
from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import TOKENS, UNFENCED_READS, Pair, Scene, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    # P's term is short: every read here comes at once.
    settings = {"extra_config": {"kv_lease_duration": 2}}
    yield from running_pair(producer(model, **settings), consumer(model), logs)


def test_vllms_own_counter_of_expiries_counts_on(pair: Pair) -> None:
    """R38, vllm 32340: operators' alerts on vLLM's counter fire as before, and the engine's log says it."""

    async def scene(s: Scene) -> None:
        await s.prefill(draw_prompts(1, seed=61, longest=400))
        await s.wait_drained()
        await s.right("one more request")

    before = pair.p.metrics().value(STOCK_EXPIRED)
    with pair.counting(ends={"expired": 1}):
        pair.play(scene)
    pair.p.wait_for_metrics(lambda m: m.value(STOCK_EXPIRED) == before + 1, "told of the expiry")
    assert "unread: its lease has expired" in pair.p.log_path.read_text()


def test_a_router_that_drops_the_lease_is_told_of(pair: Pair) -> None:
    """R38, smg 1622: D reads as from stock, right and unfenced; P can tell, by the notice that it gets."""

    async def scene(s: Scene) -> None:
        whole = await s.router.prefill(draw_prompts(1, seed=62, longest=400)[0])
        params = {name: value for name, value in whole.kv_transfer_params.items() if name != "kv_lease"}
        reference = dataclasses.replace(whole, kv_transfer_params=params)
        await s.check([reference], [await s.router.decode(reference, TOKENS)])

    before = pair.p.metrics().value(UNFENCED_READS)
    with pair.counting(ends={"released": 1}):
        pair.play(scene)
    pair.p.wait_for_metrics(lambda m: m.value(UNFENCED_READS) == before + 1, "told of the unfenced read")
    pair.wait_no_lease_out()
