"""The parts that simulations share: calls in order, the same chance for the same seed, and worker processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kvlease.simulation.agenda import Agenda
from kvlease.simulation.chance import Chance, stream
from kvlease.simulation.processes import in_processes
from proof.promises.safety import Violation
from proof.simulate.clock import BoundedAgenda


def test_calls_come_by_time_and_those_of_one_time_as_they_were_put_in() -> None:
    agenda, seen = Agenda(), list[Any]()
    for time, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        agenda.at(time, lambda name: seen.append((agenda.now, name)), name)
    agenda.at(1.5, lambda _: agenda.at(0.5, seen.append, "late"))
    agenda.run()
    assert seen == [(1.0, "a"), (1.0, "b"), "late", (2.0, "c"), (2.0, "d")]
    assert (agenda.now, agenda.events) == (2.0, 6)


def test_a_run_is_not_kept_going_by_chances() -> None:
    agenda, seen = Agenda(), list[Any]()
    agenda.perhaps(1.0, seen.append, "before the end")
    agenda.at(2.0, seen.append, "the end")
    agenda.perhaps(3.0, seen.append, "after the end")
    agenda.run()
    assert seen == ["before the end", "the end"]


def test_a_run_until_some_time_ends_at_that_time_or_when_it_is_done() -> None:
    agenda, seen = Agenda(), list[Any]()
    for time in (1.0, 2.0, 3.0):
        agenda.at(time, seen.append, time)
    agenda.run_until(2.5, lambda: False)
    assert (seen, agenda.now) == ([1.0, 2.0], 2.5)
    agenda.at(3.5, seen.append, 3.5)
    agenda.run_until(9.0, lambda: 3.0 in seen)
    assert (seen, agenda.now) == ([1.0, 2.0, 3.0], 3.0)


def test_a_run_that_does_not_come_to_rest_breaks_l3() -> None:
    """L3: a run that does not come to rest breaks the promise."""
    agenda, seen = BoundedAgenda(most_events=10), list[float]()

    def again() -> None:
        seen.append(agenda.now)
        agenda.after(1.0, again)

    again()
    with pytest.raises(Violation, match="11 events, and no rest"):
        agenda.run_until(100.0)
    assert len(seen) == 11


def test_streams_of_one_name_are_equal_and_of_other_names_are_not() -> None:
    assert stream("times", 7).random() == stream("times", 7).random()
    assert stream("times", 7).random() != stream("times", 8).random()
    chance = Chance(7)
    first = chance.of("router").random()
    assert chance.of("router").random() != first, "a purpose has one stream, which goes on"
    assert chance.of("clients").random() != first
    assert Chance(7).of("router").random() == first


_surroundings: list[str] = []


@contextmanager
def _surrounded() -> Iterator[None]:
    _surroundings.append("set up")
    yield
    _surroundings.pop()


def _seen(number: int) -> tuple[int, list[str]]:
    return number, list(_surroundings)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_process_works_within_what_was_given(jobs: int) -> None:
    results = sorted(in_processes(_seen, range(5), jobs, _surrounded))
    assert results == [(number, ["set up"]) for number in range(5)]
    assert _surroundings == []
