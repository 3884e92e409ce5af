"""A consumer remembers no more than a bound, whatever its producers say or do not say (R12, R14)."""

from protocol_bench import STEP_S, LesseeBench, P, sent

from kvlease.protocol.effects import Fetch
from kvlease.protocol.lessee import IDLE_S, MAX_DROPS, MAX_UNANSWERED, TRIES
from kvlease.protocol.messages import Ack, Hello
from kvlease.sim.structure import lessee_is_empty


def test_r12_a_producer_that_answers_only_old_copies_makes_nobody_remember_more() -> None:
    d = LesseeBench()
    d.open_and_held()
    session = d.lessee.sessions[P]
    for _ in range(1000):
        d.wait(STEP_S)
        if session.tries == TRIES - 1:
            d.hear(Ack(min(session.sent_at), []))
    assert len(session.sent_at) <= MAX_UNANSWERED, TRIES


def test_r12_drops_that_nobody_hears_do_not_pile_up() -> None:
    """A client may name a producer that is not there in one request after another, so that one always waits."""
    d = LesseeBench()
    d.track("first", 1)
    for token in range(2, MAX_DROPS + 50):
        d.lessee.track(f"r{token}", d.ref(token), d.endpoint, d.now)
        d.lessee.untrack(f"r{token}", d.now)
    session = d.lessee.sessions[P]
    assert len(session.pending) == 1 + MAX_DROPS
    assert session.pending[1], "what is still wanted is claimed"
    assert session.pending[MAX_DROPS + 49] is False, (
        "the oldest drops are forgotten: their leases are the first to expire"
    )


def test_r12_a_producer_that_acknowledges_nothing_is_left_when_nobody_wants_anything_of_it() -> None:
    d = LesseeBench()
    d.open_and_held()
    effects = d.untrack("r1")
    for _ in range(round(2 * IDLE_S / STEP_S)):
        for hello in sent(effects, Hello):
            d.welcome(hello)
        if any(isinstance(effect, Fetch) for effect in effects):
            d.fetched(d.card())
        effects = d.wait(STEP_S)
    lessee_is_empty(d.lessee)
