"""Strangers' messages, or their silence, cost a consumer no more than a bound, and no request its lease (R12, R14)."""

from kvlease.protocol import TIMING
from kvlease.protocol.effects import Fetch
from kvlease.protocol.messages import VERSION, Ack, Gone, Hello, Welcome
from kvlease.protocol.tracking import MAX_PLACES
from kvlease.testing.benches import STEP_S, LesseeBench, P, sent
from proof.promises.structure import lessee_is_empty


def test_r12_a_producer_that_answers_only_old_copies_makes_nobody_remember_more() -> None:
    d = LesseeBench()
    d.open_and_held()
    session = d.lessee.sessions[P]
    for _ in range(1000):
        d.wait(STEP_S)
        if session.tries == TIMING.tries - 1:
            d.hear(Ack(min(session.sent_at), []))
    assert len(session.sent_at) <= TIMING.max_unanswered, TIMING.tries


def test_r12_drops_that_nobody_hears_do_not_pile_up() -> None:
    """R12: drops do not pile up for a producer that is not there and that one request after another names."""
    d = LesseeBench()
    d.track("first", 1)
    for token in range(2, TIMING.max_drops + 50):
        d.lessee.track(f"r{token}", d.ref(token), d.endpoint, False, d.now)
        d.lessee.untrack(f"r{token}", d.now)
    session = d.lessee.sessions[P]
    assert len(session.pending) == 1 + TIMING.max_drops
    assert session.pending[1], "what is still wanted is claimed"
    assert session.pending[TIMING.max_drops + 49] is False, (
        "the oldest drops are forgotten: their leases are the first to expire"
    )


def test_r12_a_producer_that_acknowledges_nothing_is_left_when_nobody_wants_anything_of_it() -> None:
    d = LesseeBench()
    d.open_and_held()
    effects = d.untrack("r1")
    for _ in range(round(2 * TIMING.idle_s / STEP_S)):
        for hello in sent(effects, Hello):
            d.welcome(hello)
        if any(isinstance(effect, Fetch) for effect in effects):
            d.fetched(d.card())
        effects = d.wait(STEP_S)
    lessee_is_empty(d.lessee.snapshot())


def test_r14_places_that_clients_make_up_do_not_hide_the_right_one() -> None:
    """R14: each endpoint that requests name for a producer is asked in turn, however many there are."""
    d = LesseeBench()
    places = [("made-up-1", 1), ("made-up-2", 2), ("right", 5600), ("made-up-3", 3)]
    effects = [effect for i, place in enumerate(places) for effect in d.track(f"r{i}", i + 1, endpoint=place)]
    asked = []
    for _ in range(40):
        for effect in effects:
            assert isinstance(effect, Fetch)
            asked.append(effect.endpoint)
        effects = d.fetched(None, asked[-1]) or d.wait(2.0)
    assert asked[:8] == places * 2
    assert set(asked[-4:]) == set(places)


def test_r14_after_a_loss_a_producer_is_looked_for_first_where_it_was_found() -> None:
    d = LesseeBench()
    d.open_and_held()
    d.track("made up", 2, endpoint=("made-up", 1))
    d.lessee.peer_lost(P, d.now)
    assert [effect for effect in d.turn() if isinstance(effect, Fetch)] == [Fetch(d.endpoint)]


def test_r12_a_session_ends_however_rarely_its_producer_wants_renewals() -> None:
    d = LesseeBench()
    d.track("r1", 1)
    (hello,) = sent(d.fetched(d.card()), Hello)
    ages_ms = 2**64 - 1
    d.hear(Welcome(VERSION, P, hello.seq, ages_ms, ages_ms, ages_ms, ages_ms, 1))
    d.hear(Ack(d.last_seq, []))
    d.hear(Gone([1]))
    d.untrack("r1")
    d.wait(TIMING.idle_s + STEP_S)
    lessee_is_empty(d.lessee.snapshot())


def test_r8_a_place_that_a_request_names_is_asked_at_once_whatever_others_made_up() -> None:
    """R8: the endpoint of a new request is asked at once, even if clients' made-up ones were asked without success."""
    d = LesseeBench()
    effects = d.track("made up", 1, endpoint=("made-up", 1))
    for _ in range(20):
        effects = d.fetched(None, ("made-up", 1)) if effects else d.wait(TIMING.backoff_max_s / 2)
    assert not any(session.fetching for session in d.lessee.sessions.values())
    assert d.track("honest", 2) == [Fetch(d.endpoint)]


def test_r12_places_that_nobody_names_any_more_are_bounded() -> None:
    d = LesseeBench()
    d.track("r", 1)
    for i in range(200):
        d.track(f"made-up-{i}", 2 + i, endpoint=(f"made-up-{i}", 1))
        d.untrack(f"made-up-{i}")
        d.fetched(None, d.lessee.sessions[P].endpoint)
        d.wait(TIMING.backoff_max_s)
    assert len(d.lessee.sessions[P].places) <= MAX_PLACES + 2
