"""Faults that two halves, each right by itself, once made together (S4, L3, R24); the simulator plays the rest."""

from kvlease.protocol import Cause, Fingerprint, LeaseRef, Standing
from kvlease.protocol.messages import Bye, Hello, Renew
from kvlease.protocol.said import Grant, Track, Untrack
from tests.protocol.peers_by_hand import CONFIG, TIMING, Peers

P, D, D2 = 0xA, 0xD1, 0xD2


def claimed(*consumers: int, token: int = 1) -> Peers:
    peers = Peers(P, D, D2)
    lease(peers, *consumers, token=token)
    return peers


def lease(peers: Peers, *consumers: int, token: int) -> None:
    """Makes P grant a lease and these consumers claim it."""
    peers[P].said.append(Grant(token))
    ref = LeaseRef(P, token, 0, 6000, Fingerprint(1, 0))
    for consumer in consumers:
        peers[consumer].said.append(Track(f"r{token}", ref, peers.endpoint(P)))
    peers.run(1)
    for consumer in consumers:
        assert standing(peers, consumer, token) is Standing.HELD


def standing(peers: Peers, consumer: int, token: int = 1) -> Standing | None:
    return peers[consumer].peer.lessee.standing(f"r{token}", peers.now)


def test_s4_a_late_bye_does_not_end_the_session_opened_after_it() -> None:
    peers = claimed(D)
    peers[D].said.append(Untrack("r1"))
    peers.run(10)
    assert not peers[P].peer.lessor.sessions, "it has said Bye"
    lease(peers, D, token=2)
    peers.echo(Bye)
    peers.run(0.1)
    assert peers[P].peer.lessor.leases[2].claims == (D,)
    peers.run(2 * CONFIG.duration_s)
    assert standing(peers, D, 2) is Standing.HELD
    peers[D].said.append(Untrack("r2"))
    peers.nothing_is_left()


def test_s4_a_late_hello_after_a_false_report_of_death_opens_no_session_that_the_consumer_trusts() -> None:
    peers = claimed(D)
    peers.report_dead(D, at=P)
    peers.run(0.6)
    assert peers.settled.causes == {1: Cause.ORPHANED}
    peers.echo(Hello)
    peers.run(0.1)
    assert D in peers[P].peer.lessor.sessions
    assert list(peers[P].lapsed) == [1]
    peers.run(5)
    assert peers[P].peer.lessor.leases[1].claims == (D,), "in a session of its own it has brought the lease back"
    assert (list(peers[P].lapsed), peers[D].lost) == ([], [])
    peers[D].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_r20_after_a_false_report_of_death_what_was_reused_meanwhile_is_lost() -> None:
    peers = claimed(D)
    peers.report_dead(D, at=P)
    peers.run(0.6)
    peers.reuse(P)
    peers.run(5)
    assert peers[D].lost == ["r1"]
    peers[D].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_r20_a_consumer_that_slept_until_its_lease_was_reused_hears_so_as_it_wakes() -> None:
    """L2, R20: it may believe in the lease until then, since what it reads is right until then, or fenced."""
    peers = claimed(D)
    peers[D].asleep_until = peers.now + 3 * CONFIG.duration_s
    peers.run(2 * CONFIG.duration_s)
    assert (list(peers[P].lapsed), peers.settled.causes) == ([1], {1: Cause.EXPIRED})
    peers.reuse(P)
    peers.run(2 * CONFIG.duration_s)
    assert peers[D].lost == ["r1"]
    peers[D].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_l3_a_consumer_that_slept_beyond_the_term_brings_its_lease_back() -> None:
    """L3: nothing of P's memory was needed meanwhile, so nothing has to be computed again."""
    peers = claimed(D)
    peers[D].asleep_until = peers.now + 3 * CONFIG.duration_s
    peers.run(5 * CONFIG.duration_s)
    assert standing(peers, D) is Standing.HELD
    assert (list(peers[P].lapsed), peers[D].lost) == ([], [])
    peers[D].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_r23_a_lease_that_one_consumer_has_read_serves_another_while_its_blocks_are_there() -> None:
    peers = claimed(D)
    peers[D].said.append(Untrack("r1"))
    peers.run(0.2)
    assert peers.settled.causes == {1: Cause.RELEASED}
    peers[D2].said.append(Track("r1", LeaseRef(P, 1, 0, 6000, Fingerprint(1, 0)), peers.endpoint(P)))
    peers.run(3 * CONFIG.duration_s)
    assert standing(peers, D2) is Standing.HELD
    peers[D2].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_l3_a_consumer_that_slept_through_a_lapse_states_its_claims_again() -> None:
    peers = claimed(D)
    peers[D].asleep_until = peers.now + CONFIG.extension_s + 0.5
    peers.run(CONFIG.extension_s + 0.1)
    assert peers[P].peer.lessor.leases[1].claims == (), "its claim is void, the grant's own term runs"
    peers.run(2 * CONFIG.duration_s)
    assert peers[P].peer.lessor.leases[1].claims == (D,)
    assert standing(peers, D) is Standing.HELD
    peers[D].said.append(Untrack("r1"))
    peers.nothing_is_left()


def test_r24_two_consumers_of_one_lease_do_not_free_under_each_other() -> None:
    peers = claimed(D, D2)
    peers[D].said.append(Untrack("r1"))
    peers.run(0.2)
    for _ in range(2):
        peers.echo(Renew)
        peers.run(CONFIG.duration_s)
        assert peers[P].peer.lessor.leases[1].claims == (D2,)
        assert standing(peers, D2) is Standing.HELD
    peers[D2].said.append(Untrack("r1"))
    peers.run(0.2)
    assert peers.settled.causes == {1: Cause.RELEASED}
    peers.echo(Renew)
    peers.nothing_is_left()


def test_the_link_of_two_that_lease_from_each_other_goes_with_the_last_half_that_needs_it() -> None:
    peers = claimed(D)
    peers[D].said.append(Grant(2))
    peers[P].said.append(Track("r2", LeaseRef(D, 2, 0, 6000, Fingerprint(1, 0)), peers.endpoint(D)))
    peers.run(1)
    peers[D].said.append(Untrack("r1"))
    peers.run(TIMING.idle_s + TIMING.session_idle_s)
    assert not peers[D].peer.lessee.sessions, "as a consumer it is through"
    assert peers[D].transport.peers == peers[D].peer.snapshot().links == {P}
    assert standing(peers, P, 2) is Standing.HELD
    peers[P].said.append(Untrack("r2"))
    peers.nothing_is_left()
