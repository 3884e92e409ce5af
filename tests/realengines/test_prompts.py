"""R35: a lease is bound to its prompt, of any kind: lists of prompts, token ids, prompts with a salt."""

import json
from typing import Any

import pytest

from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import TOKENS, Pair, Scene, gather

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120), pytest.mark.usefixtures("nothing_left")]

OTHER_PROMPTS = "kvlease:other_prompts_total"


@pytest.fixture(scope="module")
def pair(shared_pair: Pair) -> Pair:
    return shared_pair


def texts(count: int, seed: int, tokens: int) -> list[str]:
    """Returns `count` prompts of `tokens` tokens each."""
    return draw_prompts(count, seed=seed, shortest=tokens, longest=tokens)


def other_prompts(pair: Pair) -> float:
    return pair.d.metrics().value(OTHER_PROMPTS)


@pytest.mark.parametrize("n", [1, 2])
def test_a_list_of_prompts_is_answered_each_by_its_own(pair: Pair, n: int) -> None:
    """R35, vllm 54707, 50559, 50558: P's answer has the reference to the first alone. It is read for no other, D's
    prefix cache has nothing wrong afterwards, and P keeps nothing for the others."""
    first, second, third = texts(3, seed=150 + n, tokens=96)
    prompts = [first, second, third]

    async def scene(s: Scene) -> None:
        right = [await s.right(prompt) for prompt in prompts]
        answer = await s.use(prompts, await s.hand_off(prompts, n=n), n=n)
        assert answer.choices == tuple(tokens for tokens in right for _ in range(n))
        assert [(await s.from_the_cache_of(s.pair.d, prompt)).token_ids for prompt in prompts] == right

    others = other_prompts(pair)
    with pair.counting(ends={"released": 1, "aborted": 3 * n - 1}, checks={"intact": n}):
        pair.play(scene)
    pair.d.wait_for_metrics(lambda m: m.value(OTHER_PROMPTS) == others + 2 * n, "done with the other prompts")


@pytest.mark.parametrize(
    ("seed", "handed_off", "asked", "in_ds_cache"),
    [
        # D has the first block, so that the blocks of P would be copied to the wrong places.
        (160, "{0}{1}", "{0}{1}t", "{0}########"),
        (161, "{0}{1}{2}", "{0}{1}", None),
        (162, "{0}{1}{2}", "{0}{1}", "{0}########"),
        (163, "{0}{1}{2}", "{2}{1}{0}", None),
        (164, "{0}{1}{2}", "{0}{1}{1}", "{0}########"),
    ],
    ids=["longer", "shorter", "shorter, in part cached", "as long", "as long, in part cached"],
)
def test_a_hand_off_that_reached_another_prompt_is_computed(
    pair: Pair, seed: int, handed_off: str, asked: str, in_ds_cache: str | None
) -> None:
    """R35: whatever a router mixed up, the answer is right, D's prefix cache too, and the lease stays its owner's."""
    blocks = texts(3, seed=seed, tokens=32)
    theirs, ours = handed_off.format(*blocks), asked.format(*blocks)

    async def scene(s: Scene) -> None:
        if in_ds_cache is not None:
            await s.from_the_cache_of(s.pair.d, in_ds_cache.format(*blocks))
        params = await s.hand_off(theirs)
        assert (await s.use(ours, params)).token_ids == await s.right(ours)
        for prompt in (ours, theirs, theirs + "zz"):
            cached = await s.from_the_cache_of(s.pair.d, prompt)
            assert cached.token_ids == await s.right(prompt), prompt
        assert (await s.use(theirs, params)).token_ids == await s.right(theirs)

    others = other_prompts(pair)
    with pair.counting(ends={"released": 1}):
        pair.play(scene)
    pair.d.wait_for_metrics(lambda m: m.value(OTHER_PROMPTS) == others + 1, "done with the other prompt")


@pytest.mark.parametrize(("at_p", "at_d"), [("a", "a"), ("a", "b"), (None, "b")])
def test_the_cache_salt_is_part_of_the_prompt(pair: Pair, at_p: str | None, at_d: str) -> None:
    """R35: vLLM never shares blocks between salts, and no hand-off makes it do so."""
    (prompt,) = texts(1, seed=170, tokens=200)
    salts: list[dict[str, Any]] = [{} if salt is None else {"cache_salt": salt} for salt in (at_p, at_d)]
    others = other_prompts(pair) + (at_p != at_d)

    async def scene(s: Scene) -> None:
        params = await s.hand_off(prompt, **salts[0])
        assert (await s.use(prompt, params, **salts[1])).token_ids == await s.right(prompt)
        if at_p != at_d:
            # The lease's owner can still read it.
            assert (await s.use(prompt, params, **salts[0])).token_ids == await s.right(prompt)

    with pair.counting(ends={"released": 1}, checks={"intact": 1}):
        pair.play(scene)
    pair.d.wait_for_metrics(lambda m: m.value(OTHER_PROMPTS) == others, "done with the other prompt")


async def ids_of(s: Scene, prompt: str) -> list[int]:
    """The prompt as the engines number its tokens."""
    answer = await s.from_the_cache_of(s.pair.p, prompt)
    ids: list[int] = json.loads(answer.body)["choices"][0]["prompt_token_ids"]
    return ids


def test_token_ids_with_more_asked_of_them_are_read(pair: Pair) -> None:
    """D reads prompts that are token ids or lists of them, also with logprobs and min_tokens."""
    first, second = texts(2, seed=180, tokens=250)
    asked: dict[str, Any] = {"logprobs": 2, "min_tokens": 4}

    async def scene(s: Scene) -> None:
        tokens = [await ids_of(s, first), await ids_of(s, second)]
        answer = await s.use(tokens[0], await s.hand_off(tokens[0]), **asked)
        assert answer.token_ids == await s.right(first)
        assert len(json.loads(answer.body)["choices"][0]["logprobs"]["token_logprobs"]) == TOKENS
        both = await s.use(tokens, await s.hand_off(tokens))
        assert both.choices == (await s.right(first), await s.right(second))

    with pair.counting(ends={"released": 2, "aborted": 1}, checks={"intact": 2}):
        pair.play(scene)


def test_one_reference_is_used_many_times(pair: Pair) -> None:
    """R19, R24: a router uses one reference four times at once, and again after its lease: all answers are right."""
    (prompt,) = texts(1, seed=190, tokens=900)

    async def scene(s: Scene) -> None:
        params = await s.hand_off(prompt)
        right = await s.right(prompt)
        answers = await gather([s.use(prompt, params) for _ in range(4)])
        assert [answer.token_ids for answer in answers] == [right] * 4
        await s.reuse_blocks()
        assert (await s.use(prompt, params)).token_ids == right

    ended, revived = pair.lease_ends(), late_claims_in_time(pair)
    pair.play(scene)
    pair.wait_no_lease_out()
    # Where one use was through before the next one began, the lease was over in between, and lived again.
    pair.wait_lease_ends(ended, released=1 + round(late_claims_in_time(pair) - revived))


def late_claims_in_time(pair: Pair) -> float:
    return pair.p.metrics().value("kvlease:late_claims_total", outcome="in_time")


@pytest.mark.essential
def test_a_prefill_that_went_on_beyond_its_prompt_is_not_offered(pair: Pair) -> None:
    """S1: with the blocks of P's own answer among those that are offered, vLLM's D takes each for its neighbour."""
    (prompt,) = texts(1, seed=190, tokens=96)

    async def scene(s: Scene) -> None:
        params = await s.hand_off(prompt, max_tokens=64)
        assert "kv_lease" not in params
        assert (await s.use(prompt, params)).token_ids == await s.right(prompt)

    with pair.counting(ends={"aborted": 1}, checks={}):
        pair.play(scene)
