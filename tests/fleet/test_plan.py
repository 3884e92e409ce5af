"""The plan: the part of the traffic that is played, the candidates, and the one that is recommended."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvlease.fleet.advice import Advice, AdviceStep, describe_rule, lines, pick, to_paste
from kvlease.fleet.plan import INTERVALS, MARGIN, TERMS_S, Candidate, Tried, Troubles, crashes, stalls
from kvlease.fleet.settings import Fleet
from kvlease.fleet.traffic.arrival import Arrival
from kvlease.fleet.traffic.made import MadeTraffic
from kvlease.fleet.traffic.sampling import TrafficSample, describe, take
from kvlease.fleet.traffic.source import Shape, SourceError, capacity, shape
from kvlease.fleet.traffic.traces import Trace
from kvlease.protocol.config import resolve
from tests.fleet.outcomes import outcome, with_

FLEET = Fleet(producers=8, consumers=16)
TROUBLES = Troubles(stall_s=10.0, crashes_per_hour=0.5)


def evenly(count: int, over_s: float) -> TrafficSample:
    arrivals = [Arrival(over_s * number / (count - 1), 1000, 100) for number in range(count)]
    return TrafficSample(arrivals, FLEET, 1.0, 0.0, count, shape(arrivals).rate)


def tried(
    term_s: float = 30.0, *, lost: int = 0, stranded: float = 0.0, redone: int = 0, bytes_per_s: float = 0.0
) -> Tried:
    """A candidate's results; `stranded` is a share of memory."""
    calm = outcome(
        blocks={"stranded_block_s": stranded * 1000 * 100.0 + 5.0, "stranded_read_block_s": 5.0},
        traffic={"bytes_per_s": bytes_per_s, "messages_per_s": 48.0},
    )
    return Tried(
        Candidate.of_term(term_s),
        calm,
        with_(calm, leases={"lost_while_wanted": lost}),
        with_(calm, prefills={"repeated": redone}, blocks={"stranded_block_s": 5.0}, crashes=8),
        engines=16,
        crashes_per_hour=0.5,
    )


# -- the traffic that is played ------------------------------------------------------------------------------------


def trace(tmp_path: Path, seconds: list[float]) -> Trace:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        "".join(f'{{"timestamp": {1000 * at}, "input_length": 1000, "output_length": 100}}\n' for at in seconds)
    )
    return Trace(path)


def test_the_busiest_stretch_is_played_from_zero_on(tmp_path: Path) -> None:
    slow, busy = [10.0 * number for number in range(10)], [100.0 + number for number in range(10)]
    sample = take(trace(tmp_path, [*slow, *busy, 200.0, 300.0]), FLEET, count=100, window_s=9.0, seed=1)
    assert [each.at for each in sample.arrivals] == [float(number) for number in range(10)]
    assert sample.begin_s == 100.0
    assert sample.rate == pytest.approx(1.0)
    assert sample.mean_rate == pytest.approx(21 / 300.0)
    assert "from 100 s on" in describe(sample)


def test_what_is_too_much_is_cut_together_with_the_fleet(tmp_path: Path) -> None:
    """Half of the requests are played, evenly taken, on half of the engines: the load of each stays the same."""
    whole = [0.1 * number for number in range(1000)]
    sample = take(trace(tmp_path, whole), FLEET, count=500, window_s=100.0, seed=1)
    assert (sample.fleet.producers, sample.fleet.consumers, sample.part) == (4, 8, 0.5)
    assert len(sample.arrivals) == 500
    assert sample.rate == pytest.approx(10.0, rel=0.01)
    shape_of_all = Shape(10.0, 1000.0, 100.0)
    assert sample.load == pytest.approx(10.0 / capacity(FLEET, shape_of_all).least, rel=0.01)
    assert "50 % of the requests and of the engines" in describe(sample)
    assert "2 times as many peers" in describe(sample)


def test_a_fleet_that_is_too_small_is_said(tmp_path: Path) -> None:
    sample = take(trace(tmp_path, [0.001 * number for number in range(1000)]), FLEET, 1000, 10.0, 1)
    assert sample.load > 1
    assert "queues grow" in describe(sample)


def test_made_traffic_is_sampled_too_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvlease.fleet.traffic.sampling.LOOKED_THROUGH", 20_000)
    samples = [take(MadeTraffic(rate=40.0), FLEET, 1000, 120.0, seed) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0].window_s == pytest.approx(120.0, rel=0.05)


def test_too_little_to_plan_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="1 requests"):
        take(trace(tmp_path, [1.0]), FLEET, 100, 10.0, 1)


def test_every_decode_engine_stands_still_once_for_longer_than_leases_have_to_survive() -> None:
    sample = evenly(1000, 200.0)
    planned = stalls(sample, TROUBLES, seed=1)
    assert sorted(stall.index for stall in planned.stalls) == list(range(16))
    for stall in planned.stalls:
        assert (stall.side, stall.kind, stall.lasts_s) == ("consumer", "process", 10.0 * MARGIN)
        assert 0 < stall.at < 200.0
    assert stalls(sample, Troubles(0.0, 0.5), seed=1).stalls == ()


def test_every_other_decode_engine_dies_once() -> None:
    planned = crashes(evenly(1000, 200.0), seed=1)
    assert [crash.index for crash in planned.crashes] == list(range(0, 16, 2))
    assert all(crash.side == "consumer" and 0 < crash.at < 200.0 for crash in planned.crashes)
    assert planned.crashes != crashes(evenly(1000, 200.0), seed=2).crashes


@pytest.mark.parametrize("term_s", TERMS_S)
def test_every_candidate_is_a_configuration_that_kvlease_takes(term_s: float) -> None:
    derived = Candidate.of_term(term_s)
    assert derived.config.renew_interval_s == pytest.approx(
        resolve({"kv_lease_duration": term_s}).renew_interval_s, abs=1e-3
    )
    for part in INTERVALS:
        Candidate(term_s, 0.0, derived.config.extension_s * part).config  # noqa: B018


# -- costs ---------------------------------------------------------------------------------------------------------


def test_what_crashes_strand_is_counted_as_often_as_they_happen() -> None:
    calm = outcome(blocks={"stranded_block_s": 600.0, "stranded_read_block_s": 500.0})
    crashed = outcome(blocks={"stranded_block_s": 1250.0, "stranded_read_block_s": 450.0}, crashes=8)
    one = Tried(Candidate.of_term(30.0), calm, calm, crashed, engines=36, crashes_per_hour=2.0)
    assert one.stranded_a_crash == 100.0
    # 1 block-second a second without crashes, and 2 more by 36 engines x 2 an hour x 100 block-seconds: 3 of 1,000.
    assert one.stranded_share == pytest.approx(0.003)


def test_what_was_lost_or_redone_without_the_faults_is_not_their_doing() -> None:
    calm = outcome(leases={"lost_while_wanted": 3}, prefills={"recomputed": 3})
    stalled = outcome(leases={"lost_while_wanted": 5}, prefills={"recomputed": 4, "repeated": 1})
    one = Tried(Candidate.of_term(30.0), calm, stalled, calm, engines=2, crashes_per_hour=0.0)
    assert (one.lost, one.redone) == (2, 2)


# -- the recommendation --------------------------------------------------------------------------------------------


def test_a_lease_that_is_lost_weighs_more_than_memory() -> None:
    assert pick([tried(5.0, lost=3), tried(30.0, lost=0, stranded=0.2)], takeover=False) == 1


def test_of_those_that_lose_none_the_least_memory_decides() -> None:
    assert (
        pick([tried(5.0, lost=1), tried(30.0, stranded=0.01, bytes_per_s=9.0), tried(60.0, stranded=0.03)], False) == 1
    )


def test_where_memory_is_equal_within_a_thousandth_the_fewest_bytes_decide() -> None:
    assert pick([tried(5.0, stranded=0.01, bytes_per_s=9.0), tried(60.0, stranded=0.0105, bytes_per_s=3.0)], False) == 1
    assert pick([tried(5.0, stranded=0.01, bytes_per_s=9.0), tried(60.0, stranded=0.0125, bytes_per_s=3.0)], False) == 0


def test_what_is_equal_in_all_is_left_at_its_default() -> None:
    """Traffic that differs by up to 5 % is equal, and where all is equal the default stays."""
    found = [tried(5.0, bytes_per_s=100.0), tried(30.0, bytes_per_s=104.0), tried(60.0, bytes_per_s=101.0)]
    assert pick(found, takeover=False) == 1
    default = Candidate.of_term(20.0)
    others = [replace(default, grace_s=5.0), replace(default, interval_s=1.0), replace(default, term_s=10.0)]
    assert all(other.strangeness > default.strangeness for other in others)


def test_where_requests_are_taken_over_work_weighs_more_than_memory() -> None:
    found = [tried(redone=50), tried(stranded=0.01)]
    assert pick(found, takeover=True) == 1
    assert pick(found, takeover=False) == 0


def advice(*found: Tried, chosen: int = 0, fleet: Fleet = FLEET) -> Advice:
    return Advice(replace(evenly(100, 10.0), fleet=fleet), TROUBLES, [AdviceStep("term", found, chosen)])


def test_what_is_recommended_can_be_pasted_and_is_taken_by_kvlease() -> None:
    text = to_paste(advice(tried(30.0)))
    assert text == '{"kv_lease_duration": 30, "kv_lease_orphan_grace": 0, "kv_lease_renew_interval": 5}'
    resolve(json.loads(text))


def test_where_no_term_is_long_enough_it_says_so() -> None:
    assert advice(tried(120.0)).warning == ""
    warning = advice(tried(60.0, lost=9), tried(120.0, lost=4), chosen=1).warning
    assert "no term up to 120 s" in warning
    assert "stalls of 15 s" in warning
    assert "4 were lost" in warning


def test_the_rule_is_stated_as_it_was_applied() -> None:
    assert "--takeover" not in describe_rule(advice(tried()))
    assert "--takeover" in describe_rule(advice(tried(), fleet=replace(FLEET, takeover=True)))


def test_a_line_has_what_a_candidate_costs_an_engine() -> None:
    (line,) = lines(
        AdviceStep("term", [tried(30.0, lost=2, stranded=0.5, redone=7, bytes_per_s=4800.0)], 0), engines=24
    )
    assert line == ["30 s", "2", "0", "50 %", "7", "2", "200 B", "10", "10"]
