"""Draining: a producer that is to be stopped grants no leases more, and says when none is left."""

import pytest

from kvlease.protocol import Cause
from tests.engine.producers import PROMPT, Producer


def test_it_declines_and_says_why() -> None:
    p = Producer()
    p.side.draining = True
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    assert p.side.finish("r", p.pool.take(2)) is None
    assert p.side.counts["declined.draining"] == 1
    assert p.side.left == 0
    p.side.draining = False
    p.prefill("s")
    assert p.side.left == 1, "undone, it grants again"


@pytest.mark.parametrize("by_order", [False, True])
def test_what_is_out_is_left_until_it_is_over(by_order: bool) -> None:
    p = Producer(by_order=by_order)
    refs = [p.prefill(name)[0] for name in ("r", "s")]
    p.side.draining = True
    assert p.side.left == 2
    p.lapse(refs[0], Cause.RELEASED)
    p.step()
    assert p.side.left == 1
    p.lapse(refs[1], Cause.EXPIRED)
    if by_order:
        assert p.side.left == 1, "its blocks are held until the workers have cleared its words"
    p.step()
    assert p.side.left == 0


def test_a_prefill_that_has_begun_is_left_until_it_is_granted_and_over() -> None:
    """A prefill is not thrown away; so whoever waits for the end waits for its lease as well."""
    p = Producer()
    p.side.take_on("r", PROMPT)
    own = p.pool.take(2)
    p.side.prepare("r")
    p.side.draining = True
    assert p.side.left == 1
    p.side.prepare("r")
    assert p.side.left == 1, "preempted and scheduled again"
    ref = p.side.finish("r", own)
    assert ref is not None
    assert p.side.left == 1
    p.lapse(ref, Cause.RELEASED)
    assert p.side.left == 0


def test_a_prefill_that_is_aborted_is_not_left() -> None:
    p = Producer()
    for name in ("r", "s"):
        p.side.take_on(name, PROMPT)
        p.side.prepare(name)
    p.side.draining = True
    p.side.abort("r")
    assert p.side.left == 1
    # Two requests had this name, and the first one has taken the prompt.
    p.side.abort("s")
    assert p.side.left == 0


def test_what_is_over_stays_over() -> None:
    """Nothing that a late consumer claims keeps the engine from its end, and `left` never rises."""
    p = Producer()
    ref, _ = p.prefill("r")
    p.lapse(ref, Cause.EXPIRED)
    p.side.draining = True
    p.revive(ref)
    assert p.side.left == 0
    assert p.words(ref) == [0]
    assert p.said("cleared") == [ref.token], "its claimants are told"
    assert p.side.counts["late_claims.too_late"] == 1
    p.is_empty()


def test_a_new_lease_counts_before_it_is_asked_for_whether_the_engine_is_draining() -> None:
    """Whoever begins to drain while a lease is being prepared sees either it, or no lease come of it."""

    class Drained(type(Producer().side)):  # type: ignore[misc]
        """A producer's side that notes what is left at the moment at which it looks whether it is drained."""

        seen: list[int]

        @property
        def draining(self) -> bool:
            self.seen.append(self.left)
            return False

        @draining.setter
        def draining(self, value: bool) -> None: ...

    p = Producer()
    p.side.__class__ = Drained
    p.side.__dict__["seen"] = []
    p.side.__dict__.pop("draining", None)
    ref, _ = p.prefill("r")
    p.lapse(ref, Cause.EXPIRED)
    p.revive(ref)
    assert p.side.__dict__["seen"] == [1, 1]
