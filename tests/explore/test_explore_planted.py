"""Bugs that are planted in the product's code are found by exploration, on the shortest way there is."""

import logging

import pytest

from kvlease.explore.scale import Bounds
from kvlease.explore.search import Found, Limits, Search
from kvlease.sim.planted import PLANTED

ONE_LEASE = Bounds(beats=2, faults=1, sizes=(2,))
QUICK = {
    # name: rules, actions to the state from which it shows
    "no_fence": ({"S1"}, 6),
    "aborted_before_schedule_kept": ({"L3"}, 4),
}


def explore(name: str, bounds: Bounds, settle_every: int = 1) -> Found:
    logging.getLogger("kvlease").setLevel(logging.CRITICAL)
    with PLANTED[name].apply():
        return Search(bounds, settle_every=settle_every, limits=Limits(states=400_000)).run()


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_at_once(name: str) -> None:
    rules, actions = QUICK[name]
    found = explore(name, ONE_LEASE)
    assert found.violation is not None
    assert found.violation.rule in rules
    assert len(found.way) == actions
