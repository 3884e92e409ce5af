"""Leases that are held for consumers which are not heard any more."""

from types import SimpleNamespace
from typing import Any

import pytest

from kvlease.admin.unheard import PERIOD_S, HeldSize, UnheardLeases, UnheardSizes
from kvlease.engine.leased_blocks import LeaseSize
from kvlease.testing.benches import D2, D, LessorBench

SIZES = {1: LeaseSize(100, 7), 2: LeaseSize(50, 4), 3: LeaseSize(10, 1)}


class Watched:
    """A lessor with vLLM's settings, and what is found of it."""

    def __init__(self, **settings: float) -> None:
        self.bench = LessorBench(**settings)  # type: ignore[arg-type]
        self.changes: list[UnheardSizes] = []
        self.unheard = UnheardLeases(SIZES.get, lambda: self.changes.append(self.unheard.sizes))
        self.peer: Any = SimpleNamespace(lessor=self.bench.lessor)

    def found(self, *, after_s: float = PERIOD_S) -> UnheardSizes:
        self.bench.wait(after_s)
        self.unheard.look(self.peer, self.bench.now)
        return self.unheard.sizes


@pytest.fixture
def watched() -> Watched:
    watched = Watched(orphan_grace=5)
    watched.bench.grant(1, 2, 3)
    return watched


def test_nothing_is_found_where_nobody_claims_or_all_renew(watched: Watched) -> None:
    assert watched.found() == UnheardSizes()
    watched.bench.claim(1, 2)
    for _ in range(3):
        assert watched.found(after_s=5.0) == UnheardSizes()
        watched.bench.renew()


def test_a_consumer_that_misses_two_renewals_is_silent_until_its_claims_are_void(watched: Watched) -> None:
    watched.bench.claim(1, 2)
    assert watched.found(after_s=9.9) == UnheardSizes()
    assert watched.found() == UnheardSizes(silent=HeldSize(2, 150, 11))
    assert watched.found() == watched.unheard.sizes
    assert watched.found(after_s=10.0) == UnheardSizes(), "they are unclaimed, or over"
    assert watched.changes == [UnheardSizes(silent=HeldSize(2, 150, 11)), UnheardSizes()]


def test_a_consumer_that_goes_on_is_heard_again(watched: Watched) -> None:
    watched.bench.claim(1)
    assert watched.found(after_s=11.0).silent.leases == 1
    watched.bench.renew()
    assert watched.found() == UnheardSizes()


def test_the_dead_are_told_apart_while_their_grace_runs(watched: Watched) -> None:
    watched.bench.claim(1)
    watched.bench.claim(2, 3, peer=D2)
    watched.bench.lose_peer(D)
    assert watched.found() == UnheardSizes(dead=HeldSize(1, 100, 7))
    assert watched.found(after_s=5.0) == UnheardSizes()


def test_a_lease_with_two_claims_counts_once_for_each_kind(watched: Watched) -> None:
    watched.bench.claim(1)
    watched.bench.claim(1, peer=D2)
    assert watched.found(after_s=11.0).silent == HeldSize(1, 100, 7)
    watched.bench.lose_peer(D)
    assert watched.found() == UnheardSizes(dead=HeldSize(1, 100, 7), silent=HeldSize(1, 100, 7))


def test_a_pause_of_the_agent_is_no_silence_of_its_consumers(watched: Watched) -> None:
    """R26: the lessor's time stands while its agent does."""
    watched.bench.claim(1)
    watched.found()
    watched.bench.now += 30
    watched.bench.lessor.advance(watched.bench.now)
    assert watched.found() == UnheardSizes()


def test_it_looks_no_more_often_than_it_must(watched: Watched) -> None:
    watched.bench.claim(1)
    watched.bench.lose_peer()
    assert watched.found().dead.leases == 1
    watched.bench.lessor.leases.clear()
    assert watched.found(after_s=PERIOD_S / 2).dead.leases == 1


def test_a_lease_that_has_just_ended_counts_no_more(watched: Watched) -> None:
    watched.unheard = UnheardLeases({2: SIZES[2]}.get)
    watched.bench.claim(1, 2)
    watched.bench.lose_peer()
    assert watched.found().dead == HeldSize(1, 50, 4)
