"""A producer's requests that end otherwise, come again under one name, or have siblings."""

from kvlease.protocol import Cause, LeaseRef
from tests.engine.producers import PROMPT, Producer


def test_a_prefill_that_was_preempted_keeps_its_word() -> None:
    """A preempted prefill keeps its word, though vLLM allocates its blocks anew, and tells the connector again."""
    p = Producer()
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    (token,) = p.side.slots.snapshot().used.values()
    p.side.prepare("r")
    assert list(p.side.slots.snapshot().used.values()) == [token]
    ref = p.side.finish("r", p.pool.take(1))
    assert ref is not None
    assert ref.token == token


def test_a_prefill_that_is_aborted_before_its_end_leaves_nothing_behind() -> None:
    p = Producer(workers=2)
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    p.side.abort("r")
    assert p.side.counts == {"ends.aborted": 1}
    assert p.side.cleared == 1
    assert p.desk.said == [], "the agent never heard of it"
    assert p.side.take_retired() == ["r"]
    p.is_empty()
    assert p.side.finish("r", [1]) is None


def test_a_request_that_is_aborted_after_its_lease_was_granted_changes_nothing() -> None:
    """An abort after the grant is a client that has gone: the reference has left, and somebody may come for it."""
    p = Producer()
    ref, _ = p.prefill("r", 2)
    p.side.abort("r")
    assert p.words(ref) == [ref.token]
    assert p.side.blocks.holds(ref.token)
    assert p.side.ended == 0


def test_a_request_without_a_lease_can_be_aborted() -> None:
    p = Producer()
    p.side.abort("unknown")
    assert not p.side.counts


def test_a_name_that_comes_again_has_a_lease_of_its_own() -> None:
    """Request names may come again (vllm 27987, 15326): each one's lease lives and ends by itself."""
    p = Producer()
    first, _ = p.prefill("r", 2)
    second, _ = p.prefill("r", 2)
    assert p.words(first) + p.words(second) == [first.token, second.token]
    p.lapse(first, Cause.ABORTED)
    assert p.side.take_retired() == [], "the workers listen for the second"
    p.side.hear_heartbeats(["r"])
    assert p.said("extend") == [second.token]
    p.lapse(second, Cause.ABORTED)
    assert p.side.take_retired() == ["r"]
    p.is_empty()


def test_a_second_request_of_one_name_at_once_is_not_offered() -> None:
    p = Producer()
    p.side.take_on("r", PROMPT)
    p.side.prepare("r")
    ref = p.side.finish("r", p.pool.take(1))
    assert ref is not None
    assert p.side.finish("r", p.pool.take(1)) is None, "the lease is the first one's"
    p.side.prepare("r")
    assert p.side.finish("r", p.pool.take(1)) is None, "the first has taken the prompt"
    assert p.side.counts["ends.aborted"] == 1
    assert p.words(ref) == [ref.token]


def test_what_one_worker_heard_of_an_earlier_request_is_not_counted_for_the_next_of_its_name() -> None:
    p = Producer(workers=2)
    p.prefill("r", 1)
    p.side.hear_read({"r": 1})
    p.prefill("r", 1)
    p.side.hear_read({"r": 1})
    assert p.said("release") == []


# -- siblings ----------------------------------------------------------------------------------------------------------


def test_r24_of_siblings_the_lease_of_the_last_one_stays() -> None:
    """R24: the client of siblings gets the reference of the one that finishes last: the agent ends the others."""
    p = Producer()
    first, _ = p.prefill("0_a", 1, parent="a")
    p.prefill("0_b", 1, parent="b")
    second, _ = p.prefill("1_a", 1, parent="a")
    assert p.said("abort") == [first.token]
    p.lapse(first, Cause.ABORTED)
    p.lapse(second, Cause.ABORTED)
    p.prefill("2_a", 1, parent="a")
    assert p.said("abort") == [first.token], "an ended one is no earlier sibling"


def test_r24_a_siblings_end_makes_nobody_forget_the_last_one() -> None:
    p = Producer()
    p.prefill("0_a", 1, parent="a")
    second, _ = p.prefill("1_a", 1, parent="a")
    p.lapse(LeaseRef(7, p.said("abort")[0], 0, 6000, PROMPT), Cause.ABORTED)
    p.prefill("2_a", 1, parent="a")
    assert p.said("abort")[1:] == [second.token]


def test_a_name_that_comes_again_in_the_step_that_ends_its_old_lease_is_listened_for() -> None:
    """R9: the blocks that a request is given may have been those of an earlier one of its name, whose lease ends here;
    a worker that forgot the name now would not hear the new one's stock consumer."""
    p = Producer(blocks=4)
    ref, _ = p.prefill("x", 4)
    p.lapse(ref)
    p.side.take_on("x", PROMPT)
    p.pool.take(4)
    p.side.prepare("x")
    assert "x" not in p.side.take_retired()
