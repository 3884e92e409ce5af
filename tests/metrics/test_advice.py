"""Advice on the term says what the histograms show, with its confidence, and no more."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlease.metrics.advice import ENOUGH, ONE_IN_A_MILLION, RECORDING_RULES, Observed, advise, rounded_up, used
from kvlease.metrics.scraped import ScrapedHistogram
from kvlease.metrics.tails import above, share_at_most, within

BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, math.inf)
Survival = Callable[[float], float]
"""The share of waits that are longer."""
COUNTS = st.lists(st.integers(0, 10**7), min_size=len(BOUNDS), max_size=len(BOUNDS))


def histogram(counts: list[int], bounds: tuple[float, ...] = BOUNDS) -> ScrapedHistogram:
    return ScrapedHistogram(bounds, tuple(np.cumsum(counts).tolist()), 0.0, float(sum(counts)))


def drawn(survival: Survival, number: int, chance: np.random.Generator) -> ScrapedHistogram:
    """A sample of so many waits: the buckets' counts are drawn, and not the waits."""
    left = np.array([1.0, *[survival(bound) for bound in BOUNDS[:-1]], 0.0])
    return histogram(chance.multinomial(number, left[:-1] - left[1:]).tolist())


def exponential(mean: float) -> Survival:
    return lambda t: math.exp(-t / mean)


# -- the bound --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.data())
def test_the_bound_is_the_share_at_which_so_few_are_seen_in_one_sample_of_twenty(of: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, of - 1))
    share = share_at_most(seen, of)
    assert sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(seen + 1)) == pytest.approx(
        0.05, rel=1e-4
    )


@pytest.mark.parametrize(("seen", "of", "said"), [(0, 1000, 1 / 334.3), (0, 3_000_000, 1e-6), (1, 10**9, 4.744e-9)])
def test_the_bound_is_what_the_tables_say(seen: int, of: int, said: float) -> None:
    assert share_at_most(seen, of) == pytest.approx(said, rel=2e-3)


def test_where_everything_was_seen_nothing_is_excluded() -> None:
    assert share_at_most(0, 0) == share_at_most(7, 7) == 1.0
    with pytest.raises(ValueError, match="8 of 7 cannot be"):
        share_at_most(8, 7)


@given(st.integers(0, 10**5), st.integers(1, 10**9))
def test_more_that_were_late_and_fewer_in_all_never_say_less(seen: int, more: int) -> None:
    of = seen + more
    assert seen / of < share_at_most(seen, of) <= share_at_most(seen + 1, of)
    assert share_at_most(seen, of + 1) <= share_at_most(seen, of) * (1 + 1e-6)


# -- the time ---------------------------------------------------------------------------------------------------------


@given(COUNTS, st.sampled_from([1e-6, 1e-4, 0.01, 0.3]))
def test_a_time_that_was_seen_is_the_shortest_that_the_bound_allows(counts: list[int], share: float) -> None:
    found = within(histogram(counts), share)
    total = sum(counts)
    fitting = [b for b in BOUNDS[:-1] if share_at_most(above(histogram(counts), b)[1], total) <= share]
    if found is not None and not found.extrapolated:
        assert found.seconds == fitting[0]
        assert found.share <= share
    else:
        assert fitting == []


@given(COUNTS, st.floats(1e-6, 0.1), st.integers(0, len(BOUNDS) - 2), st.integers(1, 10**5))
def test_longer_waits_never_make_the_time_shorter(counts: list[int], share: float, bucket: int, moved: int) -> None:
    moved = min(moved, counts[bucket])
    slower = [*counts]
    slower[bucket] -= moved
    slower[bucket + 1] += moved
    one, other = within(histogram(counts), share), within(histogram(slower), share)
    if one is not None and other is not None and not one.extrapolated and not other.extrapolated:
        assert other.seconds >= one.seconds
    if one is None or one.extrapolated:
        assert other is None or other.extrapolated


@given(COUNTS, st.lists(st.floats(1e-7, 0.5), min_size=2, max_size=2))
def test_a_smaller_share_never_needs_less_time(counts: list[int], shares: list[float]) -> None:
    few, many = (within(histogram(counts), share) for share in sorted(shares))
    if few is not None and many is not None and few.extrapolated == many.extrapolated:
        assert few.seconds >= many.seconds


@pytest.mark.parametrize("number", [4 * 10**6, 10**8])
@pytest.mark.parametrize(
    "survival",
    [
        exponential(0.05),
        exponential(1.0),
        lambda t: min(1.0, (t / 0.02) ** -2.5),
        lambda t: 0.9 * math.exp(-t / 0.02) + 1e-6,
    ],
)
def test_a_time_that_is_no_estimate_holds_in_19_of_20_samples(survival: Survival, number: int) -> None:
    chance = np.random.default_rng(7)
    times = [within(drawn(survival, number, chance), ONE_IN_A_MILLION) for _ in range(100)]
    said = [found.seconds for found in times if found is not None and not found.extrapolated]
    wrong = sum(survival(t) > ONE_IN_A_MILLION for t in said)
    # Of 100 at 5 %, more than 11 are wrong once in a hundred tests; the samples are always the same ones.
    assert wrong <= 11


@pytest.mark.parametrize("number", [10**5, 10**6])
@pytest.mark.parametrize("mean", [0.05, 0.3, 2.0])
def test_an_estimate_says_so_and_is_near_where_the_tail_is_as_it_looks(mean: float, number: int) -> None:
    chance = np.random.default_rng(11)
    right = mean * math.log(1e6)
    for _ in range(20):
        found = within(drawn(exponential(mean), number, chance), ONE_IN_A_MILLION)
        assert found is not None
        assert found.extrapolated
        assert 0.8 * right < found.seconds < 4 * right


def test_an_estimate_of_a_heavy_tail_is_no_light_one() -> None:
    chance = np.random.default_rng(13)
    found = within(drawn(lambda t: min(1.0, (t / 0.02) ** -2.5), 10**6, chance), ONE_IN_A_MILLION)
    assert found is not None
    assert 4.0 < found.seconds < 20.0


def test_of_a_handful_nothing_is_said() -> None:
    assert within(histogram([50] + [0] * 18), ONE_IN_A_MILLION) is None
    assert within(histogram([0] * 19), ONE_IN_A_MILLION) is None


def test_a_bucket_does_not_tell_within_itself() -> None:
    waits = histogram([10] * len(BOUNDS))
    assert above(waits, 30.0) == (40, 40)
    assert above(waits, 25.0) == (40, 50)
    assert above(waits, 1000.0, beyond=3) == (3, 13)
    assert above(waits, 0.001) == (180, 190)


# -- the advice -------------------------------------------------------------------------------------------------------

CALM = drawn(exponential(0.05), 10**7, np.random.default_rng(3))
FULL = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, math.inf)


def observed(**more: Any) -> Observed:
    usual: dict[str, Any] = {"duration_s": 30.0, "extension_s": 20.0, "renew_interval_s": 5.0, "too_late": 0}
    return Observed(**({"claim_wait": CALM, "renewal_remaining": None} | usual | more))


def test_with_ten_million_short_waits_a_second_is_enough() -> None:
    advice = advise(observed())
    assert advice.recommended is not None
    assert advice.recommended.seconds == 1.0
    assert not advice.recommended.extrapolated
    assert not advice.is_too_short
    assert advice.lost_share == pytest.approx(3e-7, rel=0.01)
    assert advice.binds == "kv_lease_duration"


def test_a_term_that_loses_leases_is_too_short_and_says_how_many() -> None:
    waits = drawn(exponential(3.0), 10**7, np.random.default_rng(5))
    advice = advise(observed(claim_wait=waits, duration_s=10.0))
    assert advice.is_too_short
    assert advice.lost == above(waits, 10.0)[0] > 0
    assert advice.recommended is not None
    assert 40 <= advice.recommended.seconds <= 70
    assert "loses at most one in 2" in " ".join(advice.sentences())


def test_claims_that_came_too_late_count_though_no_histogram_has_them() -> None:
    advice = advise(observed(too_late=20))
    assert (advice.lost, advice.is_too_short) == (20, True)
    assert advice.lost_share > 2e-6
    assert advice.recommended is None or advice.recommended.extrapolated


def test_long_gaps_between_renewals_bind_the_extension() -> None:
    # In 5 million of 10 million renewals 15 s of 20 were left, and in 20 under half a second.
    remaining = histogram([20, 50, 100, 300, 1000, 5000, 50_000, 5_000_000, 5_000_000, 0], FULL)
    advice = advise(observed(renewal_remaining=remaining))
    assert advice.binds == "kv_lease_extension"
    assert advice.recommended is not None
    assert advice.recommended.seconds >= 30.0
    assert "kv_lease_extension by itself would do" in " ".join(advice.sentences())
    calm = histogram([0, 0, 0, 0, 0, 0, 0, 5_000_000, 5_000_000, 0], FULL)
    assert not advise(observed(renewal_remaining=calm)).is_too_short


def test_the_gap_is_what_was_used_of_the_extension() -> None:
    gaps = used(histogram([1, 2, 3, 4, 5, 6, 7, 8, 9, 0], FULL), 20.0)
    assert gaps.bounds == (5.0, 10.0, 13.0, 15.0, 17.0, 18.0, 19.0, 19.5, math.inf)
    assert gaps.count == 45
    # One renewal was left half a second or less: its gap was 19.5 s or more.
    assert above(gaps, 19.5)[1] == 1
    assert above(gaps, 5.0)[1] == 36


def test_too_few_leases_are_said_to_be_too_few() -> None:
    few = histogram([ENOUGH - 1] + [0] * 18)
    advice = advise(observed(claim_wait=few))
    assert advice.recommended is None
    assert list(advice.sentences()) == [
        "Leases claimed so far: 99, too few to say anything. Ask again after some traffic."
    ]
    assert not advise(observed(claim_wait=histogram([0] * 19))).is_too_short


def test_a_loss_in_ten_million_is_no_short_term_and_no_reason_for_a_shorter_one() -> None:
    advice = advise(observed(claim_wait=histogram([10_000_000] + [0] * 18), too_late=1))
    assert not advice.is_too_short
    assert advice.longer is None
    assert advise(observed(claim_wait=histogram([1000] + [0] * 18), too_late=1)).is_too_short


def test_an_estimate_promises_nothing() -> None:
    """A stall in one of 100,000 leases is in hardly any sample of 1,000, and no estimate from those can know of it."""
    waits = drawn(exponential(0.2), 1000, np.random.default_rng(3))
    advice = advise(observed(claim_wait=waits))
    assert advice.recommended is not None
    assert advice.recommended.extrapolated
    said = " ".join(advice.sentences())
    assert "loses fewer than" not in said
    assert "a rare stall that 1,000 claims did not meet is not in it" in said


def test_with_a_thousand_alike_it_says_what_can_be_said() -> None:
    said = " ".join(advise(observed(claim_wait=histogram([1000] + [0] * 18))).sentences())
    assert "kv_lease_duration 30 loses at most one in 334 (at 95 %)" in said
    assert "takes 3,000,000 leases" in said
    assert "Keep the term" in said


@given(COUNTS, st.integers(0, 1000), st.floats(1, 1000))
def test_there_is_advice_whatever_was_seen(counts: list[int], too_late: int, duration_s: float) -> None:
    advice = advise(observed(claim_wait=histogram(counts), too_late=too_late, duration_s=duration_s))
    assert 0 < advice.lost_share <= 1
    assert all(list(advice.sentences()))


@given(st.floats(1e-3, 1e6))
def test_a_value_is_rounded_up_to_two_digits(value: float) -> None:
    rounded = rounded_up(value)
    assert value <= rounded * (1 + 1e-6)
    assert rounded <= value * 1.11


@pytest.mark.parametrize(("value", "said"), [(31.2, 32.0), (0.71, 0.71), (100.0, 100.0), (0.0, 0.0), (1001.0, 1100.0)])
def test_people_write_two_digits(value: float, said: float) -> None:
    assert rounded_up(value) == said


def test_the_rules_bound_is_never_below_the_exact_one() -> None:
    """The rules of Prometheus take (2k + 3) / n, since they cannot compute the exact bound."""
    for late in [*range(50), 100, 1000, 10**5]:
        assert share_at_most(late, 10**9) <= (2 * late + 3) / 10**9


def test_the_rules_name_metrics_and_are_named_as_rules_are() -> None:
    for name, expression in RECORDING_RULES.items():
        assert name.startswith("kvlease:")
        assert name.count(":") == 2
        assert expression.count("(") == expression.count(")")
