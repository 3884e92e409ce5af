"""Synthetic traffic is the same from the same seed, and as fast, as bursty and as heavy-tailed as stated."""

import itertools
import statistics
from dataclasses import replace

import pytest

from kvlease.fleet.traffic.arrival import Arrival
from kvlease.fleet.traffic.made import Bursts, MadeTraffic, Outputs, Prompts, TrafficError, arrivals

pytestmark = pytest.mark.long

MANY = 100_000
USUAL = MadeTraffic(rate=200.0)
QUICK = replace(USUAL, bursts=Bursts(factor=4.0, burst_s=1.0, calm_s=5.0))
"""Traffic with so many spells in few requests that the figures of long runs come out."""


def gaps(traffic: MadeTraffic, count: int = MANY) -> list[float]:
    times = [arrival.at for arrival in arrivals(traffic, count, seed=1)]
    return [after - before for before, after in itertools.pairwise(times)]


def test_the_same_seed_makes_the_same_requests_and_another_seed_others() -> None:
    first, again, other = (list(arrivals(USUAL, 1000, seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert len({arrival.at for arrival in first} & {arrival.at for arrival in other}) == 0


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    assert list(itertools.islice(arrivals(USUAL, 5000, seed=3), 100)) == list(arrivals(USUAL, 100, seed=3))


def test_it_is_made_while_it_is_asked_for() -> None:
    """Requests are made one by one as they are asked for, and never all in memory together."""
    endless = arrivals(USUAL, 10**15, seed=0)
    assert isinstance(next(endless), Arrival)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_it_makes_as_many_as_were_asked_for(count: int) -> None:
    assert len(list(arrivals(USUAL, count, seed=0))) == count


def test_time_goes_on_and_the_mean_rate_comes_out() -> None:
    between = gaps(QUICK)
    assert min(between) >= 0.0
    assert len(between) / sum(between) == pytest.approx(QUICK.rate, rel=0.05)


def test_the_mean_rate_comes_out_where_gaps_reach_over_spells() -> None:
    between = gaps(replace(QUICK, rate=0.5))
    assert len(between) / sum(between) == pytest.approx(0.5, rel=0.05)


def test_it_may_begin_with_a_burst() -> None:
    """Traffic may begin with a burst: on average over seeds, its first second has as many requests as any other."""
    one_spell = MadeTraffic(rate=50.0, bursts=Bursts(factor=10.0, burst_s=1e6, calm_s=1e6))
    early = sum(sum(1 for each in arrivals(one_spell, 1000, seed) if each.at < 1.0) for seed in range(400))
    assert early / 400 == pytest.approx(50.0, rel=0.1)


def test_gaps_vary_as_much_as_is_stated() -> None:
    between = gaps(QUICK)
    found = statistics.stdev(between) / statistics.mean(between)
    assert found == pytest.approx(QUICK.bursts.variation, rel=0.05)
    assert QUICK.bursts.variation > 1.2


def test_without_bursts_it_is_a_poisson_process() -> None:
    even = replace(QUICK, bursts=Bursts(factor=1.0))
    between = gaps(even)
    assert even.bursts.variation == pytest.approx(1.0)
    assert statistics.stdev(between) / statistics.mean(between) == pytest.approx(1.0, rel=0.02)


def test_bursts_last() -> None:
    """Bursts last: counts of whole seconds vary far more than a Poisson process's, which shuffled gaps would not do."""
    times = [arrival.at for arrival in arrivals(USUAL, MANY, seed=5)]
    counts = [0] * (int(times[-1]) + 1)
    for at in times:
        counts[int(at)] += 1
    assert statistics.variance(counts) / statistics.mean(counts) > 10.0


def test_prompts_and_outputs_have_the_medians_that_are_stated_and_heavy_tails() -> None:
    made = list(arrivals(USUAL, MANY, seed=2))
    prompts, outputs = sorted(arrival.prompt for arrival in made), sorted(arrival.output for arrival in made)
    assert prompts[0] >= 1
    assert outputs[0] >= 1
    # The lengths of the tail lie above the median of the body.
    assert prompts[MANY // 2] == pytest.approx(1.07 * USUAL.prompts.median, rel=0.05)
    assert outputs[MANY // 2] == pytest.approx(USUAL.outputs.median, rel=0.05)
    assert prompts[int(MANY * 0.99)] > 10 * prompts[MANY // 2]
    assert prompts[-1] == USUAL.prompts.most


def test_nothing_is_longer_than_allowed() -> None:
    short = replace(USUAL, prompts=Prompts(most=500), outputs=Outputs(most=50))
    made = list(arrivals(short, 1000, seed=2))
    assert max(arrival.prompt for arrival in made) == 500
    assert max(arrival.output for arrival in made) == 50


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MadeTraffic(rate=0.0), "0 requests a second"),
        (lambda: MadeTraffic(rate=float("nan")), "nan requests a second"),
        (lambda: Bursts(factor=0.5), "0.5 times"),
        (lambda: Bursts(burst_s=0.0), "bursts of 0 s"),
        (lambda: Bursts(calm_s=float("inf")), "inf"),
        (lambda: Prompts(median=0.0), "median=0.0"),
        (lambda: Prompts(tail_share=1.5), "tail_share=1.5"),
        (lambda: Outputs(most=0), "most=0"),
    ],
)
def test_traffic_that_cannot_be_made_is_refused_with_its_value(make: object, named: str) -> None:
    assert callable(make)
    with pytest.raises(TrafficError, match=named):
        make()
