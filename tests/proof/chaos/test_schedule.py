"""The schedule of faults and requests is a pure function of the seed, and every kind of them occurs."""

import itertools
from collections import Counter
from dataclasses import asdict

import pytest

from proof.chaos.schedule import (
    CLIENTS,
    DECODERS,
    FAULTS,
    LONGEST_TERM_S,
    NETWORK_FAULTS,
    RESTARTS_P,
    SHORTEST_TERM_S,
    Schedule,
    draw_schedule,
)

SEEDS = range(1, 30)


def kinds(schedule: Schedule) -> Counter[str]:
    return Counter(which.fault.kind for which in schedule.rounds)


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert draw_schedule(5, requests=500, faults=40) == draw_schedule(5, requests=500, faults=40)
    assert asdict(draw_schedule(5, requests=500, faults=40)) != asdict(draw_schedule(6, requests=500, faults=40))


@pytest.mark.parametrize(("requests", "faults"), [(500, 40), (503, 40), (52, 13), (4, 1), (61, 7)])
def test_there_are_as_many_requests_and_faults_as_were_asked_for(requests: int, faults: int) -> None:
    schedule = draw_schedule(1, requests=requests, faults=faults)
    numbers = [request.number for which in schedule.rounds for request in which.requests]
    assert numbers == list(range(1, requests + 1))
    assert [which.fault.number for which in schedule.rounds] == list(range(1, faults + 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_and_every_client_occurs(seed: int) -> None:
    schedule = draw_schedule(seed, requests=500, faults=40)
    assert kinds(schedule).keys() == FAULTS.keys()
    assert {request.client for which in schedule.rounds for request in which.requests} == CLIENTS.keys()


def test_which_faults_are_frequent_depends_on_the_seed() -> None:
    most = {kinds(draw_schedule(seed, requests=500, faults=40)).most_common(1)[0][0] for seed in SEEDS}
    assert len(most) > len(FAULTS) / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_network_other_faults_take_the_place_of_its_own(seed: int) -> None:
    schedule = draw_schedule(seed, requests=500, faults=40, network=False)
    assert kinds(schedule).keys() == FAULTS.keys() - NETWORK_FAULTS
    assert len(schedule.rounds) == 40


def test_terms_go_from_2_to_30_s_and_change_with_each_start_of_the_prefill_engine() -> None:
    rounds = [draw_schedule(seed, requests=500, faults=40).rounds for seed in SEEDS]
    for one in rounds:
        terms = [which.final_term_s for which in one]
        assert (min(which.term_s for which in one), max(terms)) == (SHORTEST_TERM_S, LONGEST_TERM_S) == (2, 30)
        for before, after in itertools.pairwise(one):
            restarted = before.fault.kind in RESTARTS_P
            assert after.term_s == (before.fault.next_term_s if restarted else before.term_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stall_outlasts_the_term_and_a_stop_stays_within_the_extension(seed: int) -> None:
    for which in draw_schedule(seed, requests=500, faults=40).rounds:
        if which.fault.kind in ("stall-d", "long-step"):
            assert which.fault.lasts_s > which.term_s
        if which.fault.kind == "stop-d":
            assert which.fault.lasts_s < which.term_s * 2 / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_each_round_ends_with_one_request_for_each_decode_engine(seed: int) -> None:
    schedule = draw_schedule(seed, requests=500, faults=40)
    for which in schedule.rounds:
        assert [r.decoder for r in which.requests if r.client == "after"] == list(range(DECODERS))
        assert [r.client for r in which.requests[-DECODERS:]] == ["after"] * DECODERS
        around = [r.at_s for r in which.requests[:-DECODERS]]
        assert around == sorted(around)
        assert all(0 <= r.prompt < schedule.prompts and r.delay_s >= 0 for r in which.requests)


def test_some_requests_find_nothing_in_any_prefix_cache_and_some_may() -> None:
    requests = [r for which in draw_schedule(1, requests=500, faults=40).rounds for r in which.requests]
    assert 0.5 < sum(r.fresh for r in requests) / len(requests) < 0.8


@pytest.mark.parametrize(("requests", "faults"), [(3, 1), (100, 40), (10, 0)])
def test_too_few_requests_for_the_faults_are_refused(requests: int, faults: int) -> None:
    with pytest.raises(ValueError, match=f"{requests} requests and {faults} faults"):
        draw_schedule(1, requests=requests, faults=faults)
