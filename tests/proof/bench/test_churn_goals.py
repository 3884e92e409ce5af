"""The results of churn and fence are compared with their goals."""

import pytest

from proof.bench.churn import measure as churn
from proof.bench.churn.meter import MeterWindow, Side
from proof.bench.churn.space import Space
from proof.bench.fence import measure as fence
from proof.bench.fence.consumer import Reads
from proof.bench.fence.paths import PATHS
from proof.bench.fence.setting import Setting
from tests.proof.bench.spreads import known


def side(agent_us: float, rate: float = 5000.0) -> Side:
    """An agent that takes so long for a lease, an engine that takes 2 µs, and a process that takes 5 µs beside them."""
    leases = int(rate)
    busy = MeterWindow(1.0, leases, leases * 2e-6, leases * agent_us * 1e-6, leases * (agent_us + 7) * 1e-6 + 0.01)
    idle = MeterWindow(1.0, 0, 0.0, 0.005, 0.01)
    return Side([busy] * 3, [idle], leases=3 * leases, claims=0, grown_kib=8, own_process=True)


def sides(agent_us: float, rate: float = 5000.0) -> tuple[Side, Side]:
    return side(agent_us, rate), side(agent_us, rate)


def test_processor_time_is_that_of_both_sides_agents_and_engines() -> None:
    medians = {row.what: known(row.ours).median for row in churn.load_rows("over NIXL", sides(10.0))}
    assert medians["over NIXL: processor time of a lease, both sides"] == pytest.approx(2 * (10 + 2))
    assert medians["over NIXL: all of the processes, this benchmark's own work included"] == pytest.approx(2 * 17)
    assert medians["over NIXL: an agent with nothing to do"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("in_memory_us", "nixl_us", "rate", "met"),
    [(10.0, 12.9, 5000.0, True), (10.0, 13.1, 5000.0, False), (13.1, 10.0, 5000.0, False), (5.0, 5.0, 4000.0, False)],
)
def test_the_dearer_transport_decides_and_the_rate_has_to_be_kept(
    in_memory_us: float, nixl_us: float, rate: float, met: bool
) -> None:
    goal = churn.time_goal(sides(in_memory_us, rate), sides(nixl_us, rate))
    assert goal.met is met
    assert ("did not keep up" in goal.found) is (rate < 5000.0)


@pytest.mark.parametrize(("consumer", "met"), [(400.0, True), (500.0, False)])
def test_memory_of_a_lease_is_that_of_both_sides(consumer: float, met: bool) -> None:
    goal = churn.space_goal(Space(producer=600.0, consumer=consumer, peak=2000.0))
    assert goal.met is met


def reads(alone_ms: float, fence_us: float) -> dict[int, list[Reads]]:
    return {16: [Reads(alone_ms / 1e3, alone_ms / 1e3, alone_ms / 1e3 + fence_us / 1e6, fence_us / 1e6, 0.0)] * 3}


@pytest.mark.parametrize(
    ("one_us", "eight_us", "met"), [(29.0, 200.0, True), (31.0, 200.0, False), (29.0, 250.0, False)]
)
def test_the_fence_is_held_against_the_read_for_each_worker(one_us: float, eight_us: float, met: bool) -> None:
    found = {
        Setting("TCP", "tcp", "DRAM", 1): reads(3.0, one_us),
        Setting("TCP", "tcp", "DRAM", 8): reads(3.0, eight_us),
        Setting("shared memory", None, "DRAM", 1): reads(3.0, 1e6),
    }
    goal = fence.goal_of(PATHS["host-tcp"], found)
    assert goal.met is met
    assert f"({one_us:.0f} µs) with one worker" in goal.found


def test_what_the_fence_adds_is_a_share_of_the_read_that_was_made_beside_it() -> None:
    rows = fence.rows_of(Setting("TCP", "tcp", "DRAM", 8), reads(2.0, 40.0))
    by_name = {row.what.strip(): row for row in rows}
    assert known(by_name["… of the read alone"].ours).median == pytest.approx(2.0)
    assert known(by_name["… for each worker"].ours).median == pytest.approx(5.0)
    assert known(rows[0].ratio).median == pytest.approx(1.02)
