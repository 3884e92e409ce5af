"""The promises of the producer's half, requirement by requirement."""

import math

import pytest

from kvlease.protocol import TIMING, Cause, LeaseState, Lessor, Timing
from kvlease.protocol.clock import TICK_S
from kvlease.protocol.effects import Connect, Disconnect, Send
from kvlease.protocol.messages import TOKENS_PER_MESSAGE, VERSION, Ack, Bye, Gone, Hello, Probe, Renew
from kvlease.testing.benches import D2, STEP_S, D, LessorBench, ends, revived, sent
from proof.promises.structure import lessor_is_empty

SOON_S = TICK_S + STEP_S


def test_r1_a_grant_lasts_its_term_and_no_longer() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    assert ends(p.wait(30 - SOON_S)) == {}
    assert ends(p.wait(2 * SOON_S)) == {1: Cause.EXPIRED}


def test_r2_a_renewal_extends_from_its_arrival() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    assert ends(p.wait(18)) == {}
    p.renew()
    assert ends(p.wait(20 - SOON_S)) == {}, "18 + 20 s: longer than the term of the grant"
    assert ends(p.wait(2 * SOON_S)) == {1: Cause.EXPIRED}


def test_r2_the_welcome_tells_the_terms_of_this_producer() -> None:
    p = LessorBench(duration=30)
    welcome = p.hello()
    assert (welcome.term_ms, welcome.extension_ms, welcome.interval_ms) == (30_000, 20_000, 5_000)
    assert (welcome.version, welcome.incarnation, welcome.hello_seq) == (VERSION, p.lessor.incarnation, 1)


def test_r3_a_silent_consumer_lapses_but_the_grant_holds_until_its_own_end() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    assert ends(p.wait(25)) == {}, "claims lapsed at 20 s, the term runs until 30"
    assert p.lessor.leases[1].state is LeaseState.GRANTED
    assert ends(p.wait(5 + SOON_S)) == {1: Cause.EXPIRED}


def test_r3_a_silence_after_the_term_lapses_the_lease_at_once_and_nobody_is_told_of_that() -> None:
    """R3: a lapse is told to nobody, since a late read is right for as long as the blocks are nobody else's."""
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.wait_renewing(30)
    effects = p.wait(20 + SOON_S)
    assert ends(effects) == {1: Cause.EXPIRED}
    assert sent(effects, Gone) == []
    assert p.lessor.leases[1].state is LeaseState.LAPSED


def test_r4_nobody_is_named_when_a_lease_is_granted_and_whoever_has_the_token_may_claim_it() -> None:
    p = LessorBench()
    p.grant(1)
    assert p.lessor.take_effects() == []
    assert p.claim(1, peer=D2).unknown == []


def test_r9_the_heartbeats_of_a_stock_consumer_extend_a_lease_up_to_its_age() -> None:
    p = LessorBench(duration=30, max_age=60)
    p.grant(1)
    p.lessor.extend(1, p.now)
    assert ends(p.wait(30 - SOON_S)) == {}, "a heartbeat never shortens"
    for _ in range(4):
        p.lessor.extend(1, p.now)
        if (effects := p.wait(15)) != []:
            break
    assert ends(effects) == {1: Cause.AGED_OUT}
    p.lessor.extend(1, p.now)
    assert p.lessor.leases[1].state is LeaseState.LAPSED, "a heartbeat brings nothing back"
    assert p.lessor.counts["late.heartbeat"] == 1
    assert p.wait(60) == []


def test_r12_one_drop_ends_the_lease_and_nothing_is_left_behind() -> None:
    p = LessorBench()
    p.grant(1)
    p.claim(1)
    effects = p.renew(drops=[1])
    assert ends(effects) == {1: Cause.RELEASED}
    p.end(1)
    assert [type(e) for e in p.bye()] == [Disconnect]
    lessor_is_empty(p.lessor.snapshot())


def test_r12_consumers_that_come_and_go_leave_nothing_behind() -> None:
    p = LessorBench()
    for peer in range(1, 50):
        p.grant(peer)
        p.claim(peer, peer=peer)
        if peer % 2:
            p.lose_peer(peer)
    p.wait(300)
    p.end(*range(1, 50))
    lessor_is_empty(p.lessor.snapshot())


def test_r12_a_bye_after_a_second_hello_leaves_nothing_behind() -> None:
    p = LessorBench()
    p.grant(1)
    p.claim(1)
    p.hello()
    p.bye()
    p.end(1)
    assert p.wait(30) == []
    lessor_is_empty(p.lessor.snapshot())


def test_r9_a_consumer_of_another_version_is_not_answered() -> None:
    p = LessorBench()
    assert p.hear(D, Hello(VERSION + 1, D, p.next_seq(), "decode", b"address")) == []
    assert p.lessor.counts["refused.hello_version"] == 1
    lessor_is_empty(p.lessor.snapshot())


def test_r12_strangers_cannot_make_us_remember_more_than_a_bound() -> None:
    p = LessorBench(Timing(max_sessions=3))
    for peer in range(1, 10):
        p.hear(peer, Hello(VERSION, peer, 1, "decode", b""))
    assert len(p.lessor.sessions) == 3
    assert p.lessor.counts["refused.too_many_sessions"] == 6


def test_r12_a_session_without_claims_is_kept_for_the_next_request_and_then_forgotten() -> None:
    p = LessorBench()
    p.hello()
    assert Disconnect(D) not in p.wait(TIMING.session_idle_s - SOON_S)
    assert Disconnect(D) in p.wait(2 * SOON_S)
    lessor_is_empty(p.lessor.snapshot())


def test_l2_a_session_outlives_the_lease_that_ended_under_it() -> None:
    """L2: a consumer whose lease is over was not told that its session is, so its next claim has to be heard."""
    aged, read = LessorBench(duration=30, max_age=30), LessorBench(duration=30)
    for p in (aged, read):
        p.grant(1)
        p.claim(1)
    assert ends(aged.wait_renewing(20)) == {}
    assert ends(aged.wait(10 + SOON_S)) == {1: Cause.AGED_OUT}
    read.end(1)
    for p in (aged, read):
        p.wait(TIMING.session_idle_s - 2 * SOON_S)
        assert D in p.lessor.sessions
        p.wait(3 * SOON_S)
        p.end(1)
        lessor_is_empty(p.lessor.snapshot())


def test_r18_a_dead_consumer_leaves_after_the_grace_a_stalled_one_after_the_extension() -> None:
    p = LessorBench(duration=30, orphan_grace=1)
    p.grant(1, 2)
    p.claim(1, peer=D)
    p.claim(2, peer=D2)
    assert p.lose_peer(D) == [Disconnect(D)]
    assert p.lose_peer(D) == [], "told twice"
    assert ends(p.wait(1 - SOON_S)) == {}
    assert ends(p.wait(2 * SOON_S)) == {1: Cause.ORPHANED}, "although the term of the grant still runs"
    assert ends(p.wait(20)) == {}
    assert ends(p.wait(10)) == {2: Cause.EXPIRED}


def test_r18_a_death_postpones_nothing() -> None:
    """R18: the grace is the most that a dead consumer's lease may still last, and prolongs none that ends before."""
    p = LessorBench(duration=30, orphan_grace=5)
    p.grant(1)
    p.claim(1)
    p.wait(19)
    p.lose_peer()
    assert ends(p.wait(1 + SOON_S)) == {1: Cause.ORPHANED}


def test_r18_a_consumer_that_dies_before_it_states_its_claims_again_is_dead_all_the_same() -> None:
    """R18: what a consumer had not stated again after a Hello does not fall back to its term when it dies (0003)."""
    p = LessorBench(duration=30, orphan_grace=1)
    p.grant(1)
    p.claim(1)
    p.hello()
    p.wait(p.config.extension_s - 0.5)
    p.lose_peer()
    assert ends(p.wait(0.5 + SOON_S)) == {1: Cause.ORPHANED}


def test_r18_a_silent_producer_probes_so_that_the_transport_notices_a_death() -> None:
    p = LessorBench(probe_interval=0.25)
    p.grant(1)
    p.claim(1)
    assert 32 <= len(sent(p.wait(10), Probe)) <= 40
    p.renew()
    probes = sent(p.wait(0.2), Probe)
    p.renew()
    assert probes + sent(p.wait(0.2), Probe) == [], "what was just spoken to need not be probed"
    p.lose_peer()
    assert sent(p.wait(0.9), Probe) == [], "and nothing is sent to the dead"


def test_r21_a_session_that_claims_nothing_is_not_probed() -> None:
    p = LessorBench(probe_interval=0.25)
    p.grant(1)
    p.hello()
    assert sent(p.wait(2), Probe) == [], "nothing would be freed by its death"
    p.claim(1)
    assert sent(p.wait(2), Probe), "now something would"
    p.renew(drops=[1])
    assert sent(p.wait(2), Probe) == []


def test_the_lessor_says_when_time_next_has_something_to_do() -> None:
    p = LessorBench(duration=30, orphan_grace=5, probe_interval=0.25)
    assert p.lessor.next_due() is None
    p.grant(1)
    begun = p.now
    assert p.lessor.next_due() == pytest.approx(begun + 30, abs=TICK_S)
    p.claim(1)
    assert p.lessor.next_due() == pytest.approx(begun + 0.25, abs=TICK_S), "the first probe"
    p.lose_peer()
    assert p.lessor.next_due() == pytest.approx(begun + 5, abs=TICK_S), "the end of the grace"
    p.now += 60 + TIMING.lag_tolerance_s
    p.lessor.advance(p.now)
    assert p.lessor.next_due() == pytest.approx(begun + 65, abs=TICK_S), "a pause of its own is given back (R26)"


def test_r18_a_late_renewal_of_the_dead_brings_nothing_back() -> None:
    p = LessorBench(orphan_grace=1)
    p.grant(1)
    p.claim(1)
    p.lose_peer()
    p.wait(0.5)
    assert p.renew() == []
    assert ends(p.wait(0.6)) == {1: Cause.ORPHANED}


def test_r18_without_a_grace_a_dead_consumers_lease_lapses_at_the_next_tick() -> None:
    p = LessorBench(duration=30)
    assert p.config.orphan_grace_s == 0, "the default: a lapse costs little, since another may still claim it"
    p.grant(1)
    p.claim(1)
    p.now += STEP_S
    p.lose_peer()
    assert ends(p.turn()) == {}, "what has arrived and is unread may prove the report false"
    p.now += TICK_S
    assert ends(p.turn()) == {1: Cause.ORPHANED}


def test_r18_without_a_grace_a_hello_that_lies_unread_proves_the_report_false() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.lose_peer()
    p.now += STEP_S
    p.hello()
    assert p.claim(1).unknown == []
    assert ends(p.wait(15)) == {}


def test_r23_without_a_grace_another_consumer_takes_a_lapsed_lease_over() -> None:
    p = LessorBench(duration=30)
    p.grant(1)
    p.claim(1)
    p.lose_peer()
    assert ends(p.wait(SOON_S)) == {1: Cause.ORPHANED}
    p.wait(100)
    p.hello(D2)
    assert revived(p.renew([1], peer=D2)) == [1]
    assert ends(p.wait_renewing(40, peer=D2)) == {}


def test_r18_a_hello_within_the_grace_proves_the_report_false() -> None:
    p = LessorBench(orphan_grace=1)
    p.grant(1)
    p.claim(1)
    p.lose_peer()
    p.wait(0.5)
    effects = p.hear(D, Hello(VERSION, D, p.next_seq(), "decode", b"new address"))
    assert effects[0] == Connect(D, b"new address")
    p.claim(1)
    assert ends(p.wait(19)) == {}


def test_r20_a_claim_of_what_is_not_held_is_answered_so() -> None:
    p = LessorBench()
    p.grant(1, 2)
    p.claim(1)
    p.renew(drops=[1])
    p.end(1)
    assert p.claim(1, 2, 3).unknown == [1, 3]
    assert list(p.lessor.leases) == [2]


class Watched(dict[int, object]):
    """A dict that counts every look at a lease."""

    looks = 0

    def __getitem__(self, key: int) -> object:
        self.looks += 1
        return super().__getitem__(key)

    def get(self, key: int, default: object = None) -> object:
        self.looks += 1
        return super().get(key, default)


def test_r21_a_renewal_touches_no_lease_at_any_number_of_leases() -> None:
    p = LessorBench()
    tokens = range(1, 5001)
    p.grant(*tokens)
    for start in range(0, 5000, TOKENS_PER_MESSAGE):
        p.claim(*tokens[start : start + TOKENS_PER_MESSAGE])
    watched = Watched(p.lessor.leases)
    p.lessor.leases = watched  # type: ignore[assignment]
    p.wait(5)
    assert len(sent(p.renew(), Ack)) == 1
    assert watched.looks == 0
    p.renew(drops=[7])
    assert watched.looks == 1, "R12: releasing one costs O(1)"


def test_r22_a_restarted_producer_knows_none_of_the_old_tokens() -> None:
    p, reborn = LessorBench(), LessorBench()
    p.grant(1)
    p.claim(1)
    assert reborn.hear(D, Renew(3, [1], [], 1)) == [], "no session: it is not even answered"
    assert reborn.claim(1).unknown == [1]


def test_r23_another_consumer_takes_over_within_the_grace() -> None:
    p = LessorBench(orphan_grace=1)
    p.grant(1, 2)
    p.claim(1, 2, peer=D)
    p.lose_peer(D)
    p.wait(0.8)
    assert p.claim(1, peer=D2).unknown == []
    assert ends(p.wait(1)) == {2: Cause.ORPHANED}
    assert ends(p.wait_renewing(40, peer=D2)) == {}


def test_r24_nobody_frees_under_another_consumer() -> None:
    p = LessorBench()
    p.grant(1)
    p.claim(1, peer=D)
    p.claim(1, peer=D2)
    p.hello(stranger := 0xBAD)
    for effects in (p.renew(drops=[1], peer=D), p.renew(drops=[1], peer=D), p.renew(drops=[1], peer=stranger)):
        assert ends(effects) == {}
    assert ends(p.renew(drops=[1], peer=D2)) == {1: Cause.RELEASED}


def test_r24_a_drop_is_permitted_by_the_token_even_if_the_claim_never_came() -> None:
    p = LessorBench()
    p.grant(1)
    p.hello()
    assert ends(p.renew(drops=[1])) == {1: Cause.RELEASED}


def test_r24_an_earlier_sibling_that_is_not_handed_out_is_aborted_unless_claimed() -> None:
    p = LessorBench()
    p.grant(1, 2)
    p.claim(2)
    p.lessor.abort(1, p.now)
    p.lessor.abort(2, p.now)
    assert ends(p.lessor.take_effects()) == {1: Cause.ABORTED}


def test_r25_no_lease_is_older_than_the_maximum_age_and_its_consumers_are_told_until_they_know() -> None:
    p = LessorBench(duration=30, max_age=60)
    p.grant(1, 2)
    p.claim(1)
    p.claim(1, peer=D2)
    p.renew(drops=[2])
    effects = []
    for _ in range(14):
        effects += p.wait(5)
        for peer in (D, D2):
            effects += p.renew(peer=peer)
    assert ends(effects) == {1: Cause.AGED_OUT}
    assert sent(effects, Gone) == [], "what they read is right until its blocks are given to others"
    p.end(1)
    assert [e.peer for e in p.turn() if isinstance(e, Send) and e.message == Gone([1])] == [D, D2]
    assert sent(p.renew(), Ack)[0].reopen, "should the Gone be lost, the claims that are stated anew bring it up"


def test_r25_the_age_is_not_missed_by_a_floats_rounding() -> None:
    # Some floats share their tick with the next one, so the timer fires just before the age is reached.
    tick = next(k for k in range(70, 100) if math.ceil(math.nextafter(k * TICK_S, 9.0) / TICK_S) == k)
    p = LessorBench(duration=1, max_age=1)
    p.now = math.nextafter(tick * TICK_S, 9.0) - 1
    p.lessor = Lessor(p.config, 1, p.now)
    p.grant(1)
    p.claim(1)
    for elapsed in range(5, 100, 5):
        p.now = tick * TICK_S - 1 + elapsed / 100
        p.renew()
    p.now = tick * TICK_S
    p.lessor.advance(p.now)
    assert ends(p.lessor.take_effects()) == {1: Cause.AGED_OUT}


def test_r26_a_producer_that_slept_gives_the_time_back() -> None:
    p = LessorBench(duration=30)
    p.grant(1, 2)
    p.claim(1)
    p.wait(10)
    p.now += 3600
    p.lessor.advance(p.now)
    assert ends(p.lessor.take_effects()) == {}
    assert ends(p.wait(9.5)) == {}
    p.renew()
    assert ends(p.wait(19.5)) == {2: Cause.EXPIRED}


def test_s3_a_token_cannot_be_granted_twice() -> None:
    p = LessorBench()
    p.grant(1)
    with pytest.raises(AssertionError, match="names two leases"):
        p.grant(1)


def test_a_stock_consumer_that_has_read_releases_what_nobody_claims() -> None:
    p = LessorBench()
    p.grant(1)
    p.lessor.release(1, p.now)
    assert ends(p.turn()) == {1: Cause.RELEASED}
    p.lessor.release(1, p.now)
    assert p.lessor.counts["late.drop"] == 1
    p.end(1)
    lessor_is_empty(p.lessor.snapshot())


def test_a_stock_consumer_that_has_read_leaves_a_lease_to_those_that_claim_it() -> None:
    """R24: the claim holds, but the term does not any more: with the claim the lease is over."""
    read, silent = LessorBench(duration=30), LessorBench(duration=30)
    for p in (read, silent):
        p.grant(1)
        p.claim(1)
        p.lessor.release(1, p.now)
        assert ends(p.turn()) == {}
        assert p.lessor.leases[1].claims == (D,)
    assert ends(read.renew(drops=[1])) == {1: Cause.RELEASED}
    assert ends(silent.wait(20 + SOON_S)) == {1: Cause.EXPIRED}, "at the end of the claim, not of the term"


def test_a_lease_that_the_engine_ends_while_it_lives_was_reset() -> None:
    p = LessorBench()
    p.grant(1, 2)
    p.claim(2)
    p.end(1, 2)
    p.end(1)
    assert (p.lessor.counts["ends.reset"], p.lessor.counts["late.cleared"]) == (2, 1)
    assert sent(p.turn(), Gone) == [Gone([2])]
    assert p.claim(1, 2).unknown == [1, 2]
    p.bye()
    lessor_is_empty(p.lessor.snapshot())


def test_bye_releases_what_the_consumer_claimed_without_a_grace() -> None:
    p = LessorBench()
    p.grant(1, 2)
    p.claim(1)
    p.claim(2)
    p.claim(2, peer=D2)
    effects = p.bye()
    assert ends(effects) == {1: Cause.RELEASED}
    assert Disconnect(D) in effects


def test_a_producer_that_shuts_down_says_bye() -> None:
    p = LessorBench()
    p.hello(D)
    p.hello(D2)
    p.lessor.close(p.now)
    assert p.lessor.take_effects() == [Send(D, Bye()), Send(D2, Bye())]
