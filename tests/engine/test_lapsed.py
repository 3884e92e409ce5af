"""A producer's leases that are over and not gone: free, readable, claimed again, and cleared before reuse (S2)."""

import pytest

from kvlease.protocol import Cause
from kvlease.protocol.effects import Lapse, Revive
from tests.engine.producers import Producer


@pytest.mark.parametrize("cause", [Cause.EXPIRED, Cause.ORPHANED, Cause.RELEASED, Cause.AGED_OUT])
def test_a_lapsed_leases_blocks_are_free_and_its_word_stands(cause: Cause) -> None:
    p = Producer(workers=2)
    ref, _ = p.prefill("r")
    p.lapse(ref, cause)
    assert p.pool.free == 20
    assert p.words(ref) == [ref.token] * 2
    assert p.said("cleared") == []
    assert p.side.has("r")
    assert p.side.counts[f"ends.{cause}"] == p.side.ended == 1
    assert p.side.counts["reclaimed_blocks"] == (0 if cause is Cause.RELEASED else 2)
    assert (p.side.blocks.held_blocks, p.side.blocks.lapsed_blocks) == (0, 2)


def test_s2_a_word_is_clear_when_any_of_its_blocks_is_given_away() -> None:
    p = Producer(workers=2, blocks=4)
    ref, blocks = p.prefill("r", 4)
    p.lapse(ref)
    assert p.pool.take(1) == [blocks[-1]]
    assert p.words(ref) == [0, 0]
    assert p.said("cleared") == [ref.token]
    assert p.side.take_retired() == ["r"]
    assert p.side.take_retired() == []
    p.pool.give_back([blocks[-1]])
    p.is_empty()
    assert p.side.ended == 1, "it was over before"
    assert p.side.cleared == 1


def test_s2_a_block_that_leases_share_ends_all_of_them() -> None:
    p = Producer(blocks=6)
    first, prefix = p.prefill("first", 2)
    second, _ = p.prefill("second", 0, shared=prefix)
    other, _ = p.prefill("other", 1)
    for ref in (first, second, other):
        p.lapse(ref)
    p.revive(other)
    while prefix[1] in p.pool.queue:
        assert (p.words(first), p.words(second)) == ([first.token], [second.token])
        p.pool.take(1)
    assert (p.words(first), p.words(second), p.words(other)) == ([0], [0], [other.token])
    assert sorted(p.said("cleared")) == [first.token, second.token]


def test_s2_one_block_of_its_own_ends_no_lease_but_its_own() -> None:
    p = Producer(blocks=6)
    first, prefix = p.prefill("first", 2)
    second, used = p.prefill("second", 1, shared=prefix)
    p.lapse(first)
    p.lapse(second)
    while used[-1] in p.pool.queue:
        p.pool.take(1)
    assert (p.words(first), p.words(second)) == ([first.token], [0])
    assert p.said("cleared") == [second.token]


def test_a_held_lease_that_shares_blocks_with_a_lapsed_one_keeps_both_readable() -> None:
    p = Producer(blocks=4)
    first, prefix = p.prefill("first", 2)
    second, _ = p.prefill("second", 1, shared=prefix)
    p.lapse(first)
    p.pool.take(p.pool.free)
    assert (p.words(first), p.words(second)) == ([first.token], [second.token])


def test_a_lease_that_lives_again_holds_its_blocks() -> None:
    p = Producer(blocks=4)
    ref, blocks = p.prefill("r", 2)
    p.lapse(ref)
    p.revive(ref)
    assert p.side.counts["late_claims.in_time"] == 1
    assert not set(p.pool.take(p.pool.free)) & set(blocks)
    assert p.words(ref) == [ref.token]
    p.lapse(ref, Cause.RELEASED)
    assert (p.side.counts["ends.expired"], p.side.counts["ends.released"]) == (1, 1)


def test_a_claim_that_comes_too_late_is_counted_and_brings_nothing_back() -> None:
    p = Producer(blocks=2)
    ref, _ = p.prefill("r", 2)
    p.lapse(ref)
    taken = p.pool.take(1)
    p.revive(ref)
    assert p.side.counts["late_claims.too_late"] == 1
    assert p.said("cleared") == [ref.token], "once: the agent tells those who claim it"
    p.pool.give_back(taken)
    p.is_empty()
    p.lapse(ref, Cause.EXPIRED)
    assert p.side.ended == 1, "nor does a lapse that follows the claim"


def test_news_are_heard_in_their_order() -> None:
    p = Producer()
    ref, _ = p.prefill("r", 2)
    p.desk.news += [Lapse(ref.token, Cause.RELEASED), Revive(ref.token), Lapse(ref.token, Cause.EXPIRED)]
    p.side.hear_news()
    assert p.side.blocks.has_lapsed(ref.token)
    p.desk.news += [Revive(ref.token), Lapse(ref.token, Cause.RELEASED), Revive(ref.token)]
    p.side.hear_news()
    assert p.side.blocks.holds(ref.token)


def test_what_has_lapsed_is_reused_last_and_in_the_order_of_its_lapse() -> None:
    """R23: what was read is reused no sooner than what was not, or no second reader would ever find it."""
    p = Producer(blocks=6)
    read, first = p.prefill("read", 2)
    unread, second = p.prefill("unread", 2)
    p.lapse(read, Cause.RELEASED)
    p.lapse(unread, Cause.EXPIRED)
    assert set(p.pool.take(2)) == {4, 5}
    assert (p.words(read), p.words(unread)) == ([read.token], [unread.token])
    assert set(p.pool.take(2)) == set(first)
    assert (p.words(read), p.words(unread)) == ([0], [unread.token])
    assert set(p.pool.queue) == set(second)


@pytest.mark.parametrize("cause", [Cause.ABORTED, Cause.REVOKED])
def test_s2_what_nobody_is_to_read_ends_at_once(cause: Cause) -> None:
    p = Producer()
    ref, _ = p.prefill("r", 2)
    p.lapse(ref, cause)
    assert p.words(ref) == [0]
    assert p.said("cleared") == [ref.token]
    assert p.side.counts[f"ends.{cause}"] == 1
    p.is_empty()
