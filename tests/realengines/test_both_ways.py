"""Engines that are P and D at once: `kv_both` on both sides, n-gram speculation, and a side channel on IPv6."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_prompts
from proof.realengines.router import Reference, Router
from tests.realengines.pairs import Pair, Scene, gather, producer, running

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(240)]

ANSWER_TOKENS = 64
SPECULATION = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
DRAFTED = "vllm:spec_decode_num_draft_tokens_total"


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    arguments = ("--speculative-config", json.dumps(SPECULATION))
    engines = [
        Engine(
            producer(
                model,
                name=f"Both-{core}",
                role="kv_both",
                cores=(core,),
                extra_args=arguments,
                extra_env={"VLLM_NIXL_SIDE_CHANNEL_HOST": "::1"},
            ),
            logs,
        )
        for core in (0, 1)
    ]
    pair = Pair(engines[0], engines[1])
    with running(*engines):
        yield pair


def other_way(pair: Pair) -> Pair:
    return Pair(p=pair.d, d=pair.p)


def test_each_prefills_for_the_other_at_once(pair: Pair) -> None:
    """The same two agents have sessions in both directions; drafts are made, and the answers are right with them."""

    async def one_way(s: Scene, seed: int) -> None:
        async def one(prompt: str) -> tuple[int, ...]:
            reference: Reference = await s.router.prefill(prompt)
            return (await s.router.decode(reference, ANSWER_TOKENS)).token_ids

        prompts = draw_prompts(4, seed=seed, longest=900)
        answers = await gather([one(prompt) for prompt in prompts])
        assert answers == [await s.right(prompt, ANSWER_TOKENS) for prompt in prompts]

    async def scene(s: Scene) -> None:
        other = other_way(pair)
        back = Scene(other, Router(s.client, other.p.url, other.d.url), s.client)
        await gather([one_way(s, 210), one_way(back, 211)])

    with (
        pair.counting(ends={"released": 4}, checks={"intact": 4}),
        other_way(pair).counting(ends={"released": 4}, checks={"intact": 4}),
    ):
        pair.play(scene)
    assert pair.p.metrics().value(DRAFTED) > 0
    assert pair.d.metrics().value(DRAFTED) > 0


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_late_read_is_never_wrong(pair: Pair, back: bool) -> None:
    """S1: a late read is never wrong, in either direction."""
    (other_way(pair) if back else pair).read_late(seed=212 + back)


def test_other_block_sizes_are_computed_on_both(pair: Pair, model: Path, logs: Path) -> None:
    """Stock reads blocks of another size, and answers wrongly. With kvlease D computes, and lets P's blocks go."""
    large = producer(
        model, name="D-64", role="kv_consumer", cores=(1,), num_blocks=150, extra_args=("--block-size", "64")
    )
    engine = Engine(large, logs)
    with running(engine):
        odd = Pair(pair.p, engine)

        async def scene(s: Scene) -> None:
            references = await s.prefill(draw_prompts(2, seed=214, longest=600))
            await s.check(references, [await s.router.decode(reference, 8) for reference in references])
            await s.wait_drained()

        odd.play(scene)
        assert odd.fence_checks().get("intact", 0) == 0


def test_a_consumer_by_role_can_prefill(pair: Pair, model: Path, logs: Path) -> None:
    """Stock works with any role on P (dynamo 15057), and so does kvlease."""
    engine = Engine(producer(model, name="P-consumer", role="kv_consumer"), logs)
    with running(engine):
        odd = Pair(engine, pair.d)

        async def scene(s: Scene) -> None:
            references = await s.prefill(draw_prompts(2, seed=215, longest=600))
            await s.check(references, [await s.router.decode(reference, 8) for reference in references])

        with odd.counting(ends={"released": 2}, checks={"intact": 2}):
            odd.play(scene)
