"""The order in which both halves of an engine hear, and the things that they share."""

from kvlease.protocol import Cause, Fingerprint, LeaseCard, LeaseRef, Peer, Standing, resolve
from kvlease.protocol.clock import TICK_S
from kvlease.protocol.effects import Connect, Disconnect, Effect, Lapse, Revive, Send
from kvlease.protocol.messages import VERSION, Ack, Bye, Gone, Hello, Message, Renew, Welcome
from kvlease.protocol.said import Abort, Cleared, Grant, Progress, Release, Track
from kvlease.protocol.states import ConsumerState, ProducerState
from kvlease.testing.benches import D, P, sent

CONFIG = resolve({"kv_lease_duration": 6, "kv_lease_extension": 2})
BEGIN = 100.0


def producer() -> Peer:
    return Peer(CONFIG, "prefill", P, b"address of P", BEGIN)


def hello(seq: int = 1) -> Hello:
    return Hello(VERSION, D, seq, "decode", b"address of D")


def heard(peer: Peer, now: float, *messages: Message, grants: int | None = None) -> list[Effect]:
    """Takes a turn in which these messages have come from D, and returns the effects."""
    return peer.turn(now, [] if grants is None else [Grant(grants)], [(D, message) for message in messages])


def test_a_claim_that_comes_with_its_grant_is_not_unknown() -> None:
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello()), Welcome)
    (ack,) = sent(heard(peer, BEGIN, Renew(2, [1], [], welcome.session), grants=1), Ack)
    assert ack.unknown == []


def test_nothing_ends_while_the_message_that_saves_it_lies_unread() -> None:
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello(), grants=1), Welcome)
    heard(peer, BEGIN, Renew(2, [1], [], welcome.session))
    for ticks in range(round(CONFIG.extension_s / TICK_S)):
        heard(peer, BEGIN + ticks * TICK_S)
    assert peer.lessor.sessions[D].deadline < BEGIN + CONFIG.extension_s + TICK_S
    effects = heard(peer, BEGIN + CONFIG.extension_s + TICK_S, Renew(3, [], [], welcome.session))
    assert peer.snapshot().lessor.leases[0].claims == (D,)
    assert not [effect for effect in effects if isinstance(effect, Lapse)]


def test_a_claim_that_comes_with_the_word_of_the_leases_end_is_unknown() -> None:
    """S3: what the engine has said comes first, so a lease whose block has just gone is not brought back."""
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello(), grants=1), Welcome)
    peer.turn(BEGIN, [Release(1)])
    effects = peer.turn(BEGIN, [Cleared(1)], [(D, Renew(2, [1], [], welcome.session))])
    assert not [effect for effect in effects if isinstance(effect, Revive)]
    assert [ack.unknown for ack in sent(effects, Ack)] == [[1]]


def test_a_claim_that_comes_before_the_word_of_the_leases_end_is_told_in_that_turn() -> None:
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello(), grants=1), Welcome)
    assert peer.turn(BEGIN, [Release(1)]) == [Lapse(1, Cause.RELEASED)]
    assert Revive(1) in heard(peer, BEGIN, Renew(2, [1], [], welcome.session))
    assert sent(peer.turn(BEGIN, [Cleared(1)]), Gone) == [Gone([1])]


def test_the_engine_hears_of_a_lease_in_the_order_in_which_it_lapsed_and_lived_again() -> None:
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello(), grants=1), Welcome)
    claims, drops = Renew(2, [1], [], welcome.session), Renew(3, [], [1], welcome.session)
    effects = peer.turn(BEGIN, [Release(1)], [(D, claims), (D, drops), (D, Renew(4, [1], [], welcome.session))])
    news = [effect for effect in effects if isinstance(effect, Lapse | Revive)]
    assert news == [Lapse(1, Cause.RELEASED), Revive(1), Lapse(1, Cause.RELEASED), Revive(1)]


def test_what_the_engine_aborts_is_over_for_everybody() -> None:
    peer = producer()
    (welcome,) = sent(heard(peer, BEGIN, hello(), grants=1), Welcome)
    assert peer.turn(BEGIN, [Abort(1)]) == [Lapse(1, Cause.ABORTED)]
    (ack,) = sent(heard(peer, BEGIN, Renew(2, [1], [], welcome.session)), Ack)
    assert ack.unknown == [1]


def test_what_time_does_next_is_what_either_half_waits_for() -> None:
    peer = producer()
    assert peer.next_due() is None
    heard(peer, BEGIN, grants=1)
    assert peer.next_due() == peer.lessor.next_due()


def test_a_peer_that_is_lost_is_lost_to_both_halves_and_the_link_goes_once() -> None:
    peer = producer()
    place = ("d.example", 5600)
    assert Connect(D, b"address of D") in heard(peer, BEGIN, hello())
    peer.turn(BEGIN, [Track("r", LeaseRef(D, 1, 0, 6000, Fingerprint(1, 0)), place)])
    peer.turn(BEGIN, cards=[(place, LeaseCard([VERSION], D, b"address of D", []))])
    assert peer.lessee.sessions[D].state is ProducerState.GREETING
    assert peer.snapshot().links == {D}
    assert peer.lost(D, BEGIN) == [Disconnect(D)]
    assert peer.lessor.sessions[D].state is ConsumerState.DEAD
    assert peer.lessee.sessions[D].state is ProducerState.SEEKING
    assert peer.snapshot().links == set()


def test_an_engine_that_shuts_down_says_bye_to_all() -> None:
    peer = producer()
    heard(peer, BEGIN, hello())
    assert Send(D, Bye()) in peer.close(BEGIN)


def test_a_bye_is_heard_by_the_half_that_it_is_meant_for() -> None:
    """A Bye of an engine's consumer half says nothing about the leases that it granted, and is not late."""
    peer, place = Peer(CONFIG, "both", P, b"address of P", BEGIN), ("d.example", 5600)
    peer.turn(BEGIN, [Track("r", LeaseRef(D, 1, 0, 6000, Fingerprint(1, 0)), place)])
    (own,) = sent(peer.turn(BEGIN, cards=[(place, LeaseCard([VERSION], D, b"address of D", []))]), Hello)
    heard(peer, BEGIN, hello(), Welcome(VERSION, D, own.seq, 6000, 2000, 500, 250, session=1))
    heard(peer, BEGIN, Bye(2))
    assert (list(peer.lessor.sessions), list(peer.lessee.sessions)) == ([], [D])
    assert peer.lessee.standing("r", BEGIN) is not Standing.LOST
    heard(peer, BEGIN, Bye())
    assert peer.lessee.standing("r", BEGIN) is Standing.LOST
    assert [key for half in (peer.lessor, peer.lessee) for key in half.counts if key.startswith("late.")] == []


def test_what_was_withheld_goes_out_in_the_turn_in_which_the_engine_goes_on_whatever_arrives_in_it() -> None:
    """R25: an answer that comes in the same turn does not put the renewal off to its next interval."""
    peer, place = Peer(CONFIG, "decode", D, b"address of D", BEGIN), ("p.example", 5600)
    peer.turn(BEGIN, [Track("r", LeaseRef(P, 1, 0, 6000, Fingerprint(1, 0)), place)], progress=Progress(BEGIN, True))
    (hello,) = sent(peer.turn(BEGIN, cards=[(place, LeaseCard([VERSION], P, b"address of P", []))]), Hello)
    welcome = Welcome(VERSION, P, hello.seq, 6000, 2000, 500, 250, session=1)
    (first,) = sent(peer.turn(BEGIN, arrived=[(P, welcome)], progress=Progress(BEGIN, False)), Renew)
    (copy,) = sent(peer.turn(BEGIN + 0.26), Renew)
    peer.turn(BEGIN + 0.3, arrived=[(P, Ack(first.seq, []))])
    assert sent(peer.turn(BEGIN + 0.55), Renew) == [], "paused: nothing is renewed for it"
    goes_on = BEGIN + 0.6
    effects = peer.turn(goes_on, arrived=[(P, Ack(copy.seq, []))], progress=Progress(goes_on, True))
    assert len(sent(effects, Renew)) == 1
