"""The prompts of demo and engine tests."""

import pytest

from proof.realengines.prompts import LONGEST_TOKENS, SHORTEST_TOKENS, draw_prompts
from proof.realengines.spec import BLOCK_TOKENS


def test_prompts_have_the_lengths_asked_for_in_tokens_of_one_byte() -> None:
    for prompt in draw_prompts(40, seed=1):
        assert SHORTEST_TOKENS <= len(prompt.encode()) <= LONGEST_TOKENS


def test_the_same_seed_draws_the_same_prompts_and_another_seed_others() -> None:
    assert draw_prompts(6, seed=1) == draw_prompts(6, seed=1)
    assert draw_prompts(6, seed=1) != draw_prompts(6, seed=2)


def test_no_two_prompts_of_one_draw_begin_alike() -> None:
    beginnings = {prompt[:40] for prompt in draw_prompts(60, seed=3)}
    assert len(beginnings) == 60


def test_prompts_of_two_seeds_share_no_block() -> None:
    """Prompts of two seeds share no block, so nothing that one test leaves in a prefix cache serves another."""
    first, second = ({prompt[:BLOCK_TOKENS] for prompt in draw_prompts(60, seed=seed)} for seed in (3, 4))
    assert not first & second


def test_prompts_begin_with_a_sentence_of_plain_text() -> None:
    for prompt in draw_prompts(20, seed=4, shortest=300, longest=300):
        assert prompt.isascii()
        assert prompt[0].isupper()
        assert not prompt.startswith("Pell ")


def test_more_prompts_than_beginnings_are_refused() -> None:
    with pytest.raises(ValueError, match="1000 prompts"):
        draw_prompts(1000, seed=1)


@pytest.mark.parametrize(("shortest", "longest"), [(0, 10), (20, 10), (10, 10**6)])
def test_impossible_lengths_are_refused(shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match="lengths must be ordered"):
        draw_prompts(1, seed=1, shortest=shortest, longest=longest)
