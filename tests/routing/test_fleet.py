"""The choice: which engine is asked next: the least loaded of those that are best to ask."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import ConfigError
from kvlease.routing.affinity import keys_of
from kvlease.routing.breaker import BreakerState
from kvlease.routing.engines import EngineReport, EngineRole, EngineStanding, EngineView, FleetSettings
from kvlease.routing.failures import EngineFailure
from kvlease.routing.fleet import EngineFleet
from tests.routing.bench import D1, D2, D3, P1, P2, fleet_of

F = EngineFailure
CHANCE = Random(1)
DECODE = EngineRole.DECODE


def view(fleet: EngineFleet, url: str, now: float = 0.0) -> EngineView:
    return next(each for each in fleet.snapshot(now) if each.url == url)


def chosen(fleet: EngineFleet, now: float = 0.0, **rules: object) -> set[str | None]:
    return {fleet.choose_decode(now, Random(seed), **rules) for seed in range(20)}  # type: ignore[arg-type]


def shut(fleet: EngineFleet, url: str, now: float = 0.0) -> None:
    for _ in range(3):
        fleet.ended(now, url, F.CUT, fleet.begun(url))


# -- load --------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=5))
def test_the_decode_engine_with_the_least_load_is_chosen(figures: list[tuple[int, int, int]]) -> None:
    fleet, urls = EngineFleet(), [str(number) for number in range(len(figures))]
    for url, (running, waiting, own) in zip(urls, figures, strict=True):
        fleet.join(0.0, url, DECODE)
        fleet.report(0.0, url, EngineReport(running=running, waiting=waiting))
        for _ in range(own):
            fleet.begun(url)
    loads = {url: running + 2 * waiting + own for url, (running, waiting, own) in zip(urls, figures, strict=True)}
    found = fleet.choose_decode(0.0, CHANCE)
    assert found is not None
    assert loads[found] == min(loads.values())
    assert {each.url: each.load - 1 for each in fleet.snapshot(0.0)} == loads


def test_engines_that_are_alike_are_drawn() -> None:
    assert chosen(fleet_of((D1,), ())) == {D1}
    fleet = EngineFleet()
    for url in (D1, D2, D3):
        fleet.join(0.0, url, DECODE)
    assert chosen(fleet) == {D1, D2, D3}


def test_what_was_sent_since_a_report_is_added_to_it_and_not_counted_twice() -> None:
    fleet = fleet_of((D1,))
    fleet.begun(D1)
    fleet.report(0.0, D1, EngineReport(running=5))
    assert view(fleet, D1).load == 6, "the five that run have ours"
    fleet.begun(D1)
    assert view(fleet, D1).load == 7
    for _ in range(2):
        fleet.ended(0.0, D1, None, False)
    assert view(fleet, D1).load == 5


def test_a_full_cache_and_a_queue_count_more() -> None:
    fleet = fleet_of((D1, D2))
    fleet.report(0.0, D1, EngineReport(running=10, kv_usage=0.9))
    assert chosen(fleet) == {D2}
    fleet.report(0.0, D2, EngineReport(running=6, waiting=6))
    assert chosen(fleet) == {D2}, "19 requests of the one, 20.9 of the other"
    fleet.report(0.0, D2, EngineReport(running=6, waiting=7))
    assert chosen(fleet) == {D1}


def test_old_figures_are_not_believed() -> None:
    fleet = fleet_of((D1, D2))
    assert chosen(fleet, 5.0) == {D1}
    assert chosen(fleet, 5.1) == {D1, D2}, "the router's own counts are alike"
    assert view(fleet, D2, 5.1).standing is EngineStanding.WELL, "silent polls are no sign of death"


def test_an_engine_that_is_new_beside_warm_ones_gets_its_share_slowly() -> None:
    fleet = fleet_of((D1,))
    fleet.report(100.0, D1, EngineReport(running=4))
    fleet.join(100.0, D2, DECODE)
    assert chosen(fleet, 100.0) == {D1}
    assert chosen(fleet, 103.0) == {D2}, "one request by then is as much as 3.3"
    fresh = EngineFleet()
    for url, running in ((D1, 0), (D2, 4)):
        fresh.join(0.0, url, DECODE)
        fresh.report(0.0, url, EngineReport(running=running))
    assert chosen(fresh) == {D1}, "all are equally cold when the router starts"


# -- who is asked at all -----------------------------------------------------------------------------------------------


def test_a_draining_engine_is_not_chosen_while_another_lives() -> None:
    fleet = fleet_of((D1, D2))
    fleet.report(0.0, D1, EngineReport(draining=True))
    assert chosen(fleet) == {D2}
    assert chosen(fleet, reluctantly=(D2,)) == {D2}
    assert chosen(fleet, excluding=(D2,)) == {D1}
    fleet.report(1.0, D1, EngineReport(draining=None))
    assert chosen(fleet, 1.0) == {D2}, "a poll that cannot see it says nothing"
    fleet.report(2.0, D1, EngineReport(draining=False))
    assert chosen(fleet, 2.0) == {D1}


def test_an_engine_that_aborts_a_request_is_taken_to_drain_for_a_while() -> None:
    fleet = fleet_of((D1, D2))
    fleet.ended(0.0, D1, F.ABORTED, fleet.begun(D1))
    assert chosen(fleet, 4.9) == {D2}
    assert view(fleet, D1, 4.9).draining
    assert fleet.serving(4.9, DECODE) == (D2,), "and it releases nothing"
    assert not view(fleet, D1, 5.0).draining


def test_an_engine_is_dead_when_two_polls_failed_and_back_with_the_first_that_did_not() -> None:
    fleet = fleet_of((D1, D2))
    assert not fleet.report(1.0, D1, EngineReport(healthy=False))
    assert chosen(fleet, 1.0) == {D1}
    assert fleet.report(2.0, D1, EngineReport(healthy=False)), "its calls are to be ended"
    assert not fleet.report(3.0, D1, EngineReport(healthy=False)), "and once only"
    assert chosen(fleet, 3.0) == {D2}
    assert fleet.serving(3.0, DECODE) == (D2,)
    fleet.report(4.0, D1, EngineReport())
    assert view(fleet, D1, 4.0).standing is EngineStanding.WELL
    assert not fleet.report(5.0, D1, EngineReport(healthy=False)), "they are counted anew"


def test_the_breaker_of_an_engine_that_is_healthy_again_is_tried_at_once() -> None:
    fleet = fleet_of((D1, D2))
    shut(fleet, D1)
    for _ in range(2):
        fleet.report(0.0, D1, EngineReport(healthy=False))
    fleet.report(0.1, D1, EngineReport())
    assert chosen(fleet, 0.1) == {D1}
    trial = fleet.begun(D1)
    assert trial
    assert chosen(fleet, 0.1) == {D2}, "one call tries it"
    fleet.answered(0.1, D1)
    assert chosen(fleet, 0.1, excluding=(D2,)) == {D1}


def test_of_engines_that_are_all_shut_the_one_that_was_shut_first_is_tried() -> None:
    fleet = fleet_of((D1, D2, D3))
    shut(fleet, D3, 1.0)
    shut(fleet, D1, 1.1)
    assert chosen(fleet, 1.2) == {D2}
    shut(fleet, D2, 1.2)
    assert chosen(fleet, 1.3) == {D3}
    assert chosen(fleet, 1.3, shut_too=False) == {None}
    assert chosen(fleet, 1.3, reluctantly=(D3,)) == {D1}, "a request that knows it is dead asks another"
    assert fleet.serving(1.3, DECODE) == ()


def test_a_reference_that_was_seen_goes_to_engines_that_are_known_to_have_kvlease() -> None:
    fleet = fleet_of((D1,), leased=None)
    fleet.join(0.0, D2, DECODE, leased=False)
    assert chosen(fleet, fenced=True) == {None}
    fleet.report(0.0, D1, EngineReport(leased=True))
    assert chosen(fleet, fenced=True) == {D1}
    fleet.report(0.0, D1, EngineReport())
    assert chosen(fleet, fenced=True) == {D1}, "a poll that cannot see it says nothing"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_choice_is_from_the_best_there_are(seed: int) -> None:
    chance = Random(seed)
    fleet, urls = EngineFleet(), [f"d{number}" for number in range(chance.randint(1, 4))]
    for url in urls:
        fleet.join(0.0, url, DECODE, chance.choice([True, False]))
        if chance.random() < 0.3:
            shut(fleet, url)
        fleet.report(0.0, url, EngineReport(draining=chance.random() < 0.3, running=chance.randrange(3)))
    excluding = {url for url in urls if chance.random() < 0.2}
    tried = {url for url in urls if chance.random() < 0.3}
    fenced = chance.random() < 0.3
    found = fleet.choose_decode(0.0, chance, excluding=excluding, reluctantly=tried, fenced=fenced)
    rest = [
        (max(each.standing, EngineStanding.TRIED if each.url in tried else EngineStanding.WELL), each)
        for each in fleet.snapshot(0.0)
        if each.url not in excluding and (each.leased or not fenced)
        if each.standing < EngineStanding.SHUT or each.url not in tried
    ]
    if found is None:
        assert rest == []
        return
    best = min(standing for standing, _ in rest)
    loads = {each.url: each.load for standing, each in rest if standing is best}
    assert found in loads
    assert best is EngineStanding.SHUT or loads[found] == min(loads.values())


# -- prefill engines ---------------------------------------------------------------------------------------------------


def test_prompts_that_begin_alike_go_to_the_same_prefill_engine_unless_it_has_much_more_to_do() -> None:
    fleet = fleet_of(prefill=(P1, P2))
    keys = keys_of(b"you are a helpful assistant" * 20)
    first = fleet.choose_prefill(0.0, CHANCE, keys)
    assert first is not None
    other = {P1: P2, P2: P1}[first]
    taken = []
    for _ in range(6):
        taken.append(fleet.choose_prefill(0.0, CHANCE, keys))
        fleet.begun(str(taken[-1]))
    assert taken == [first, first, first, other, first, other]
    assert fleet.choose_prefill(0.0, CHANCE, keys, excluding=(first,)) == other


def test_a_prefill_engine_that_is_dead_gives_its_prompts_to_the_next_and_gets_them_back() -> None:
    fleet = fleet_of(prefill=[f"p{number}" for number in range(5)])
    prompts = [keys_of(bytes([number]) * 300) for number in range(40)]
    before = [fleet.choose_prefill(0.0, CHANCE, keys) for keys in prompts]
    for _ in range(2):
        fleet.report(0.0, "p2", EngineReport(healthy=False))
    during = [fleet.choose_prefill(0.0, CHANCE, keys) for keys in prompts]
    assert "p2" in before
    assert "p2" not in during
    assert all(was == now for was, now in zip(before, during, strict=True) if was != "p2")
    fleet.report(20.0, "p2", EngineReport())
    assert [fleet.choose_prefill(60.0, CHANCE, keys) for keys in prompts] == before


def test_a_prompt_without_a_beginning_goes_to_the_least_loaded() -> None:
    fleet = fleet_of(prefill=(P1, P2))
    fleet.begun(P1)
    assert {fleet.choose_prefill(0.0, Random(seed)) for seed in range(9)} == {P2}
    assert fleet_of(prefill=()).choose_prefill(0.0, CHANCE) is None
    assert fleet_of(prefill=()).choose_prefill(0.0, CHANCE, (b"k",)) is None


# -- who is there ------------------------------------------------------------------------------------------------------


def test_an_engine_that_leaves_gets_nothing_new_and_is_forgotten_with_its_last_call() -> None:
    fleet = fleet_of((D1, D2))
    trial = fleet.begun(D1)
    fleet.leave(D1)
    fleet.leave("http://unknown")
    assert chosen(fleet) == {D2}
    assert view(fleet, D1).left
    assert not fleet.report(0.0, "http://unknown", EngineReport())
    fleet.ended(0.0, D1, None, trial)
    assert D1 not in {each.url for each in fleet.snapshot(0.0)}
    assert not fleet.report(0.0, D1, EngineReport())
    fleet.leave(D2)
    assert not fleet.has(DECODE)


def test_an_engine_that_joins_again_is_another_process() -> None:
    fleet = fleet_of((D1,))
    trial = fleet.begun(D1)
    fleet.join(0.0, D1, DECODE)
    assert view(fleet, D1).report is not None, "it was there"
    fleet.leave(D1)
    fleet.join(1.0, D1, EngineRole.PREFILL)
    again = view(fleet, D1, 1.0)
    assert (again.role, again.left, again.leased, again.report, again.in_flight) == (
        EngineRole.PREFILL,
        False,
        None,
        None,
        1,
    )
    fleet.abandoned(D1, trial)
    assert view(fleet, D1, 1.0).in_flight == 0


def test_a_client_that_left_says_nothing_of_the_engine() -> None:
    fleet = fleet_of((D1,))
    shut(fleet, D1)
    for _ in range(3):
        trial = fleet.begun(D1)
        assert trial
        fleet.abandoned(D1, trial)
    assert view(fleet, D1).breaker is BreakerState.OPEN


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="missed_polls = 0"):
        FleetSettings(missed_polls=0)
    with pytest.raises(ConfigError, match="stale_s = -1"):
        FleetSettings(stale_s=-1)
