"""Leases that have lapsed: their blocks are free, and they can be claimed until the first is given to others (R23)."""

import math

import pytest

from kvlease.protocol import Cause, LeaseState, Lessor, Timing
from kvlease.protocol.clock import TICK_S
from kvlease.protocol.effects import Revive, Send
from kvlease.protocol.messages import TOKENS_PER_MESSAGE, Ack, Gone, Renew
from kvlease.testing.benches import D2, STEP_S, D, LessorBench, P, ends, revived, sent
from proof.promises.structure import check_lessor, lessor_is_empty

SOON_S = TICK_S + STEP_S
STRANGER = 0xBAD


def over_by(cause: Cause) -> LessorBench:
    """A lessor whose lease 1 has lapsed for this cause, and that D is in a session with."""
    p = LessorBench(duration=30, max_age=60)
    p.grant(1)
    if cause is Cause.ABORTED:
        p.lessor.abort(1, p.now)
    elif cause is Cause.REVOKED:
        p.claim(1)
        p.lessor.revoke(1, p.now)
    elif cause is Cause.EXPIRED:
        p.wait(30 + SOON_S)
    elif cause is Cause.AGED_OUT:
        p.claim(1)
        p.wait_renewing(60)
        p.wait(SOON_S)
    elif cause is Cause.ORPHANED:
        p.claim(1)
        p.lose_peer()
        p.wait(SOON_S)
    else:
        p.claim(1)
        p.renew(drops=[1])
    p.lessor.take_effects()
    lease = p.lessor.leases[1]
    assert (lease.state, lease.cause) == (LeaseState.LAPSED, cause)
    if D not in p.lessor.sessions:
        p.hello()
    return p


@pytest.mark.parametrize("cause", [Cause.EXPIRED, Cause.ORPHANED, Cause.RELEASED])
def test_r23_a_claim_brings_a_lapsed_lease_back(cause: Cause) -> None:
    p = over_by(cause)
    effects = p.renew([1])
    assert effects[0] == Revive(1)
    assert sent(effects, Ack)[0].unknown == []
    assert p.lessor.leases[1].state is LeaseState.CLAIMED
    assert p.lessor.counts["revivals"] == 1
    check_lessor(p.lessor.snapshot())
    assert revived(p.renew([1])) == [], "once"
    assert ends(p.renew(drops=[1])) == {1: Cause.RELEASED}
    p.end(1)
    p.bye()
    lessor_is_empty(p.lessor.snapshot())


@pytest.mark.parametrize("cause", [Cause.ABORTED, Cause.AGED_OUT, Cause.REVOKED])
def test_r25_a_claim_of_what_was_aborted_or_revoked_or_is_too_old_is_answered_as_unknown(cause: Cause) -> None:
    p = over_by(cause)
    effects = p.renew([1])
    assert revived(effects) == []
    assert sent(effects, Ack)[0].unknown == [1]
    assert p.lessor.leases[1].state is LeaseState.LAPSED
    check_lessor(p.lessor.snapshot())


def test_r25_a_lapsed_lease_cannot_be_claimed_beyond_its_maximum_age() -> None:
    p = LessorBench(duration=30, max_age=60)
    p.grant(1)
    p.hello()
    assert ends(p.wait(60 - SOON_S)) == {1: Cause.EXPIRED}
    assert revived(p.renew([1])) == [1], "it is not so old yet"
    assert ends(p.wait(2 * SOON_S)) == {1: Cause.AGED_OUT}, "and claimed again it is none the younger"
    assert p.claim(1).unknown == [1]
    q = LessorBench(duration=30, max_age=60)
    q.grant(1)
    q.hello()
    q.wait(60 + SOON_S)
    assert q.claim(1).unknown == [1], "it expired, and came of age meanwhile"


def test_r25_what_aged_out_a_floats_rounding_early_is_too_old_all_the_same() -> None:
    tick = next(k for k in range(70, 100) if math.ceil(math.nextafter(k * TICK_S, 9.0) / TICK_S) == k)
    p = LessorBench(duration=1, max_age=1)
    p.now = math.nextafter(tick * TICK_S, 9.0) - 1
    p.lessor = Lessor(p.config, P, p.now)
    p.grant(1)
    p.claim(1)
    for elapsed in range(5, 100, 5):
        p.now = tick * TICK_S - 1 + elapsed / 100
        p.renew()
    p.now = tick * TICK_S
    assert ends(p.turn()) == {1: Cause.AGED_OUT}
    assert p.claim(1).unknown == [1]


def test_l2_a_lease_that_lives_again_has_all_the_rights_of_one() -> None:
    p = over_by(Cause.EXPIRED)
    p.claim(1)
    assert ends(p.wait_renewing(20)) == {}
    assert p.lessor.held == 1
    assert ends(p.wait(20 + SOON_S)) == {1: Cause.AGED_OUT}


def test_l1_a_lease_that_lives_again_lapses_again() -> None:
    """L1: when its new consumer falls silent or dies, too, it lapses once more, and once more for each."""
    p = over_by(Cause.EXPIRED)
    p.claim(1)
    assert ends(p.wait(20 + SOON_S)) == {1: Cause.EXPIRED}
    p.claim(1, peer=D2)
    p.lose_peer(D2)
    assert ends(p.wait(SOON_S)) == {1: Cause.ORPHANED}


def test_a_drop_or_a_heartbeat_for_a_lapsed_lease_is_late_and_changes_nothing() -> None:
    p = over_by(Cause.EXPIRED)
    effects = p.renew(drops=[1])
    assert ends(effects) == {}
    p.lessor.extend(1, p.now)
    p.lessor.release(1, p.now)
    p.lessor.abort(1, p.now)
    assert p.turn() == []
    assert (p.lessor.counts["late.drop"], p.lessor.counts["late.heartbeat"]) == (2, 1)
    assert p.lessor.leases[1].cause is Cause.EXPIRED
    assert revived(p.renew([1])) == [1]


def test_r24_one_may_drop_what_another_brings_back_in_the_same_turn() -> None:
    p = over_by(Cause.EXPIRED)
    p.claim(1)
    p.hello(D2)
    assert ends(p.renew(drops=[1], peer=D2)) == {}
    assert p.lessor.leases[1].claims == (D,)


# -- what is held, and when something is due ---------------------------------------------------------------------


def test_what_has_lapsed_is_not_held() -> None:
    p = LessorBench(duration=30)
    p.grant(1, 2)
    p.claim(2)
    assert p.lessor.held == 2
    p.renew(drops=[2])
    assert (p.lessor.held, len(p.lessor.leases)) == (1, 2)
    p.claim(2)
    assert p.lessor.held == 2
    p.end(2)
    assert p.lessor.held == 1


def test_nothing_is_due_for_a_lapsed_lease() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.lessor.release(1, p.now)
    p.lessor.take_effects()
    assert p.lessor.next_due() is None
    assert p.wait(1000) == []
    assert p.lessor.leases[1].state is LeaseState.LAPSED


def test_a_lease_that_lives_again_is_due_again() -> None:
    p = LessorBench(duration=30, max_age=60, probe_interval=0.25)
    p.grant(1)
    p.claim(1)
    p.renew(drops=[1])
    p.lessor.take_effects()
    idle = p.lessor.next_due()
    p.claim(1)
    due = p.lessor.next_due()
    assert idle is not None
    assert due is not None
    assert due < idle, "a probe"


# -- its end -----------------------------------------------------------------------------------------------------


def told(p: LessorBench) -> list[list[int]]:
    return [gone.tokens for gone in sent(p.turn(), Gone)]


def test_r20_those_that_claim_it_again_are_told_when_its_blocks_had_just_gone() -> None:
    p = over_by(Cause.RELEASED)
    p.claim(1)
    p.hello(STRANGER)
    p.end(1)
    assert told(p) == [[1]]
    assert p.lessor.counts["ends.reset"] == 1
    assert p.claim(1).unknown == [1]


@pytest.mark.parametrize("cause", [Cause.EXPIRED, Cause.ORPHANED, Cause.RELEASED])
def test_nobody_is_told_of_the_end_of_a_lease_that_nobody_may_still_want_to_read(cause: Cause) -> None:
    p = over_by(cause)
    p.end(1)
    assert told(p) == []
    assert not sent(p.renew(), Ack)[0].reopen


def test_r20_a_consumer_that_fell_silent_is_told_of_the_end() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.wait_renewing(30)
    assert ends(p.wait(20 + SOON_S)) == {1: Cause.EXPIRED}
    p.end(1)
    assert told(p) == [[1]]


def test_r20_a_consumer_whose_lease_aged_out_is_told_of_the_end() -> None:
    p = over_by(Cause.AGED_OUT)
    p.end(1)
    assert told(p) == [[1]]


def test_r20_a_consumer_that_woke_and_claimed_it_again_is_told_once() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.wait_renewing(30)
    p.wait(20 + SOON_S)
    p.hello()
    assert revived(p.renew([1])) == [1]
    p.end(1)
    assert told(p) == [[1]]


def test_r20_of_two_that_fell_silent_only_the_one_that_did_not_let_go_is_told() -> None:
    """R20: whoever wakes, has read, and drops the lease is not told, which would make it state all its claims again."""
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.claim(1, peer=D2)
    for peer in (D, D2):
        p.wait_renewing(15, peer=peer)
    p.wait(40)
    p.hello()
    p.renew(drops=[1])
    p.end(1)
    effects = p.turn()
    assert sent(effects, Gone) == [Gone([1])]
    assert [p.lessor.sessions[peer].reopen for peer in (D, D2)] == [False, True]


def test_nobody_is_told_whose_session_is_over() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.wait(200)
    assert not p.lessor.sessions
    p.end(1)
    assert p.turn() == []
    lessor_is_empty(p.lessor.snapshot())


def test_r12_consumers_that_come_and_go_do_not_pile_up_at_a_lease() -> None:
    p = LessorBench(Timing(session_idle_s=5.0), duration=2, max_age=600)
    p.grant(1)
    for peer in range(1, 60):
        p.claim(1, peer=peer)
        p.wait(2)
    assert len(p.lessor.leases[1].unaware) < 10
    p.end(1)
    assert {effect.peer for effect in p.turn() if isinstance(effect, Send)} == set(p.lessor.sessions)


def test_nothing_is_sent_to_one_that_is_reported_dead() -> None:
    p = LessorBench(duration=30, orphan_grace=5)
    p.grant(1)
    p.claim(1)
    p.lose_peer()
    p.end(1)
    assert told(p) == []
    p.wait(6)
    lessor_is_empty(p.lessor.snapshot())


def test_r11_many_ends_at_once_are_told_in_messages_that_are_not_too_long() -> None:
    p = LessorBench(duration=30)
    tokens = list(range(1, 2 * TOKENS_PER_MESSAGE + 10))
    p.grant(*tokens)
    p.claim(*tokens[: len(tokens) // 2])
    p.claim(*tokens[len(tokens) // 2 :])
    p.end(*tokens)
    parts = told(p)
    assert [len(part) for part in parts] == [TOKENS_PER_MESSAGE, TOKENS_PER_MESSAGE, 9]
    assert [token for part in parts for token in part] == tokens


def test_ends_of_one_turn_are_told_together() -> None:
    p = LessorBench()
    p.grant(1, 2, 3)
    p.claim(1, 2)
    p.claim(2, 3, peer=D2)
    p.end(1, 2, 3)
    effects = p.turn()
    assert [(effect.peer, effect.message) for effect in effects] == [(D, Gone([1, 2])), (D2, Gone([2, 3]))]  # type: ignore[union-attr]


def test_s3_what_has_ended_cannot_be_brought_back() -> None:
    p = over_by(Cause.RELEASED)
    number = p.lessor.sessions[D].number
    p.end(1)
    effects = p.hear(D, Renew(p.next_seq(), [1], [], number))
    assert revived(effects) == []
    assert sent(effects, Ack)[0].unknown == [1]
    assert not p.lessor.leases


def test_a_revoked_lease_is_gone_for_all_its_claimants_once_its_word_is_clear() -> None:
    p = LessorBench(duration=30)
    p.grant(1, 2)
    p.claim(1, 2)
    p.claim(1, peer=D2)
    p.lessor.revoke(1, p.now)
    effects = p.turn()
    assert ends(effects) == {1: Cause.REVOKED}
    assert sent(effects, Gone) == [], "what is read until the word is clear is right"
    check_lessor(p.lessor.snapshot())
    p.end(1)
    told = {e.peer: e.message.tokens for e in p.turn() if isinstance(e, Send) and isinstance(e.message, Gone)}
    assert told == {D: [1], D2: [1]}
    assert p.lessor.leases[2].state is LeaseState.CLAIMED, "the others are not touched"


def test_revoking_what_is_over_or_unknown_changes_nothing() -> None:
    p = over_by(Cause.RELEASED)
    for token in (1, 99):
        p.lessor.revoke(token, p.now)
    assert p.turn() == []
    assert p.lessor.leases[1].cause is Cause.RELEASED
    assert revived(p.renew([1])) == [1]
