"""Times from facts: of each lease what an operator asks for, once."""

from typing import Any

import pytest

from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import TIMING, Cause, Lessor, resolve
from kvlease.protocol.facts import LeaseClaimed, LeaseEnded, LeaseLapsed, RenewalAnswered, SessionRenewed
from kvlease.testing.benches import D, LessorBench, P


def seen(times: ObservedTimes) -> dict[str, tuple[int, Any]]:
    """The number of values, and their sum, of each histogram that has any."""
    found = {}
    for name, histogram in times.histograms.items():
        count = sum(number for number, _ in histogram.cells())
        if count:
            found[name] = (count, pytest.approx(sum(total for _, total in histogram.cells())))
    return found


def test_only_the_first_claim_ends_the_wait() -> None:
    times = ObservedTimes()
    times.hear(LeaseEnded(1, None))
    times.hear(LeaseClaimed(1, D, 2.0, True, False))
    times.hear(LeaseClaimed(1, D, 9.0, False, True))
    assert seen(times) == {"claim_wait_seconds": (1, 2.0)}


@pytest.mark.parametrize(
    ("cause", "claimed_s", "read"),
    [(Cause.RELEASED, 3.0, True), (Cause.RELEASED, None, False), (Cause.EXPIRED, 3.0, False)],
)
def test_an_end_has_an_age_and_a_release_the_time_since_the_claim(
    cause: Cause, claimed_s: float | None, read: bool
) -> None:
    times = ObservedTimes()
    times.hear(LeaseLapsed(1, cause, 5.0, claimed_s))
    assert seen(times) == {"lease_age_seconds": (1, 5.0)} | ({"claim_to_release_seconds": (1, 3.0)} if read else {})


def test_renewals_have_what_was_left_and_the_time_of_their_answer() -> None:
    times = ObservedTimes()
    times.hear(SessionRenewed(D, 15.0, 2))
    times.hear(RenewalAnswered(P, 0.004))
    times.late(0.001)
    assert seen(times) == {
        "renewal_remaining_seconds": (1, 15.0),
        "ack_round_trip_seconds": (1, 0.004),
        "agent_lag_seconds": (1, 0.001),
    }


def test_a_lessor_tells_all_of_it() -> None:
    bench, times = LessorBench(), ObservedTimes()
    bench.lessor = Lessor(resolve({}), P, bench.now, TIMING, times.hear)
    bench.grant(1)
    bench.wait(2.0)
    bench.claim(1)
    bench.wait(5.0)
    bench.renew()
    bench.renew(drops=[1])
    assert seen(times) == {
        "claim_wait_seconds": (1, 2.0),
        "renewal_remaining_seconds": (2, 15.0 + 20.0),
        "claim_to_release_seconds": (1, 5.0),
        "lease_age_seconds": (1, 7.0),
    }


def test_a_renewal_that_comes_when_its_session_is_about_to_end_has_nothing_left_and_not_less() -> None:
    """A sum that falls is a restart to Prometheus, which adds all of it up again."""
    bench, times = LessorBench(), ObservedTimes()
    bench.lessor = Lessor(resolve({}), P, bench.now, TIMING, times.hear)
    bench.grant(1)
    bench.claim(1)
    bench.wait(bench.config.extension_s - 0.01)
    # What has arrived is heard before what is due is ended.
    bench.now += 0.05
    bench.renew()
    assert seen(times)["renewal_remaining_seconds"] == (1, 0.0)
