"""Each rule on what consumers believe and producers hold is seen to fail when it is broken (S3, S4, L2, R20)."""

import pytest

from kvlease.protocol import Cause
from proof.promises.safety import Violation
from proof.promises.standing import Granted, Session, Settled, Stated, check_beliefs, check_loss

P, D1, D2, TOKEN = 0x101, 0xD1, 0xD2, 0xA1


def held(*claims: tuple[int, int], live: bool = True) -> Granted:
    sessions = tuple(Session(consumer, number, frozenset({TOKEN})) for consumer, number in claims)
    return Granted(P, frozenset({TOKEN} if live else ()), sessions)


def says(*, wants: bool = False, drops: bool = False, number: int = 1, is_open: bool = True) -> tuple[Stated, ...]:
    token = frozenset({TOKEN})
    return (Stated(P, number, is_open, token if wants else frozenset(), token if drops else frozenset()),)


def dropped_by_d1() -> Settled:
    settled = Settled()
    settled.look(D1, says(wants=True))
    settled.look(D1, says(drops=True))
    return settled


def test_s3_a_lease_may_lapse_and_live_again_but_not_once_it_has_ended() -> None:
    settled = Settled()
    settled.lapsed(TOKEN, Cause.EXPIRED)
    settled.check(held())
    settled.lapsed(TOKEN, Cause.RELEASED)
    settled.has_ended(TOKEN)
    settled.check(held(live=False))
    with pytest.raises(Violation, match="came back"):
        settled.check(held())
    with pytest.raises(Violation, match="has ended, and lapsed after that"):
        settled.lapsed(TOKEN, Cause.ORPHANED)


def test_s4_a_drop_that_was_acknowledged_stays_dropped() -> None:
    settled = dropped_by_d1()
    settled.check(held((D1, 1)))
    settled.look(D1, says())
    settled.check(held(live=False))
    with pytest.raises(Violation, match="S4: a1 was dropped"):
        settled.check(held())


def test_s4_a_lease_that_another_consumer_wants_may_live_but_not_for_who_dropped_it() -> None:
    settled = dropped_by_d1()
    settled.look(D2, says(wants=True))
    settled.look(D1, says())
    settled.check(held((D2, 2)))
    with pytest.raises(Violation, match="S4: d1 claims a1"):
        settled.check(held((D1, 1), (D2, 2)))
    settled.check(held((D1, 7), (D2, 2)))


def test_s4_a_drop_is_not_settled_by_a_session_that_ended_or_is_not_open() -> None:
    settled = dropped_by_d1()
    settled.look(D1, says(is_open=False))
    settled.check(held())
    settled.look(D1, ())
    settled.look(D1, says())
    settled.check(held())


def test_l2_held_is_the_producers_word() -> None:
    check_beliefs({(P, TOKEN)}, D1, held((D1, 1)), {}, set())
    check_beliefs({(P, TOKEN)}, D1, held(live=False), {TOKEN: Cause.AGED_OUT}, set())
    check_beliefs({(P + 1, TOKEN)}, D1, held(live=False), {}, set())
    check_beliefs({(P, TOKEN)}, D1, held(live=False), {TOKEN: Cause.EXPIRED}, {TOKEN})
    with pytest.raises(Violation, match="L2"):
        check_beliefs({(P, TOKEN)}, D1, held((D2, 1)), {}, set())
    with pytest.raises(Violation, match="L2"):
        check_beliefs({(P, TOKEN)}, D1, held(live=False), {TOKEN: Cause.EXPIRED}, set())


def test_r20_nobody_is_told_that_a_living_lease_is_lost() -> None:
    check_loss(D1, TOKEN, held(live=False))
    with pytest.raises(Violation, match="R20"):
        check_loss(D1, TOKEN, held())
