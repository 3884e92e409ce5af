"""The producer's half with messages that come late, twice, in another order, or in another's name (S4)."""

from kvlease.protocol import Cause, LeaseState
from kvlease.protocol.messages import VERSION, Ack, Bye, Hello, Renew, Welcome
from kvlease.testing.benches import D2, D, LessorBench, ends, sent


def test_s4_what_is_not_newer_changes_nothing() -> None:
    p = LessorBench()
    p.grant(1, 2)
    p.claim(1)
    number = p.lessor.sessions[D].number
    p.renew(drops=[1])
    p.end(1)
    p.wait(1)
    before = p.lessor.snapshot()
    for late in (Renew(2, [1, 2], [], number), Renew(3, [], [2], number), Hello(VERSION, D, 1, "decode", b""), Bye(2)):
        assert p.hear(D, late) == []
    assert p.lessor.snapshot() == before
    assert p.lessor.sessions[D].claims == set()
    assert p.lessor.leases[2].state is LeaseState.GRANTED


def test_s4_a_session_that_a_late_hello_opened_is_not_the_one_that_the_consumer_means() -> None:
    p = LessorBench(orphan_grace=1)
    p.grant(1)
    hello = Hello(VERSION, D, 1, "decode", b"")
    welcome = sent(p.hear(D, hello), Welcome)[0]
    p.hear(D, Renew(2, [1], [], welcome.session))
    p.lose_peer()
    assert ends(p.wait(1.1)) == {1: Cause.ORPHANED}
    ghost = sent(p.hear(D, hello), Welcome)[0]
    assert ghost.session != welcome.session
    assert p.hear(D, Renew(3, [], [], welcome.session)) == [], "no Ack: lease 1 is not held, and it would say so"


def test_s4_a_hello_again_keeps_the_claims_for_one_extension_and_then_only_those_stated_again() -> None:
    p = LessorBench(duration=30)
    p.grant(1, 2)
    p.claim(1, 2)
    p.wait_renewing(30)
    p.hello()
    p.wait(1)
    p.claim(1)
    assert ends(p.wait_renewing(15)) == {}
    assert ends(p.wait_renewing(10)) == {2: Cause.EXPIRED}
    assert p.lessor.leases[1].claims == (D,)


def test_s4_a_consumer_whose_claims_lapsed_is_asked_to_state_them_again() -> None:
    p = LessorBench(duration=60, extension=2, renew_interval=1)
    p.grant(1)
    assert not p.claim(1).reopen
    p.wait(3)
    assert sent(p.renew(), Ack)[0].reopen
    assert sent(p.renew(), Ack)[0].reopen, "until it does"
    p.hello()
    assert not p.claim(1).reopen


def test_s4_a_hello_in_anothers_name_is_ignored() -> None:
    p = LessorBench()
    assert p.hear(D, Hello(VERSION, D2, 1, "decode", b"")) == []
    assert not p.lessor.sessions
