"""The time at which P is back at its rate after a crash, found in the times of its prefills."""

import pytest

from proof.bench.engines.crash_report import FLAT, OURS, STOCK, curves, goals, rows
from proof.bench.engines.crash_scenario import CrashRun, CrashScenario
from tests.proof.bench.spreads import known

RATE = 8.0


def prefills(begin: float, end: float, rate: float = RATE) -> list[float]:
    count = round((end - begin) * rate)
    return [begin + (n + 0.5) / rate for n in range(count)]


def run(after: list[float], held: list[tuple[float, int]] | None = None) -> CrashRun:
    return CrashRun([*prefills(-15, 0), *after], held or [], before_s=15.0, after_s=60.0)


def test_no_loss_is_back_at_once() -> None:
    undisturbed = run(prefills(0, 60))
    assert undisturbed.rate == RATE
    assert undisturbed.back_after_s == 0.0
    assert undisturbed.share_after == pytest.approx(1.0)


def test_back_after_the_silence() -> None:
    """A prefill that was under way when D died does not make P be back."""
    assert run([0.05, *prefills(1.5, 60)]).back_after_s == pytest.approx(1.5, abs=0.1)


def test_a_burst_after_the_silence_does_not_hide_it() -> None:
    """P was silent, even if it then computes at twice its rate the prefills that have queued up."""
    assert run([*prefills(2, 4, rate=2 * RATE), *prefills(4, 60)]).back_after_s == pytest.approx(2.0, abs=0.2)


def test_back_only_where_it_stays() -> None:
    """P is not back if it goes well for eight seconds and stops again."""
    assert run([*prefills(1, 9), *prefills(20, 60)]).back_after_s == pytest.approx(20.0, abs=0.2)


def test_how_it_went_on_once_it_was_back() -> None:
    """P slows down 20 s after the crash: the row says so, and does not take it for the crash."""
    found = run([*prefills(1, 20), *prefills(20, 60, rate=RATE / 2)])
    assert found.back_after_s == pytest.approx(1.0, abs=0.2)
    assert found.rate_then == pytest.approx((19 + 40 / 2) / 59, abs=0.01)
    assert run([]).rate_then == 0.0


@pytest.mark.parametrize(("share", "back"), [(0.97, True), (0.90, False)])
def test_at_95_percent_of_its_rate(share: float, back: bool) -> None:
    found = run(prefills(1, 60, rate=share * RATE)).back_after_s
    assert found == (pytest.approx(1, abs=0.1) if back else None)


def test_never_back() -> None:
    assert run([]).back_after_s is None
    assert run([]).longest_gap_s == 60.0
    assert run([]).share_after == 0.0


def test_bursts_that_were_there_before_are_allowed_after() -> None:
    """P prefilled four prompts at once, twice a second, also before: its four seats are free at the same time."""
    bursts = [n / 2 for n in range(-30, 120) for _ in range(4)]
    assert CrashRun(bursts, [], before_s=15.0, after_s=60.0).back_after_s == 0.0


def test_a_pause_of_more_than_a_second_shows_however_unsteady_it_was_before() -> None:
    """P pauses for three seconds at a time before the crash, and a pause after it still shows."""
    unsteady = [*prefills(-15, -12, rate=2 * RATE), *prefills(-9, -6, rate=2 * RATE), *prefills(-3, 0, rate=2 * RATE)]
    found = CrashRun([*unsteady, *prefills(2, 60, rate=2 * RATE)], [], before_s=15.0, after_s=60.0).back_after_s
    assert found is not None
    assert 0.9 < found < 3.1


def test_goal_and_rows() -> None:
    runs = {OURS: [run(prefills(1.5, 60))] * 3, STOCK: [run(prefills(25, 60))] * 2, FLAT: [run([])]}
    assert [goal.met for goal in goals(runs)] == [True]
    assert [goal.met for goal in goals({OURS: [run(prefills(1.5, 60)), run(prefills(4, 60))]})] == [False]
    back, flat = rows(runs)[:2]
    assert [known(spread).count for spread in (back.ours, back.stock, back.ratio)] == [3, 2, 2]
    assert known(back.ratio).median == pytest.approx(1.5 / 25, rel=0.1)
    assert known(flat.stock).median == 60.0


def test_curves_have_the_crash_at_zero() -> None:
    rate, held = curves({OURS: [run(prefills(2, 60), held=[(-0.1, 230), (1.2, 0)])]})
    at = {x: y.median for x, y in rate.series[OURS]}
    assert (at[-0.5], at[0.5], at[1.5], at[2.5]) == (100.0, 0.0, 0.0, 100.0)
    assert [(x, y.median) for x, y in held.series[OURS]] == [(0.0, 230.0), (1.0, 0.0)]


def test_the_scenario_fills_the_memory() -> None:
    """The scenario has more clients than D and P have room for: P has no memory for one more prompt."""
    scenario = CrashScenario()
    answered_blocks = -(-(scenario.prompt_tokens + scenario.answer_tokens) // scenario.block_tokens)
    on_decoder = (scenario.decoder_blocks - 1) // answered_blocks
    assert on_decoder == scenario.seats + 1
    assert scenario.clients > on_decoder + scenario.leases_that_fit
    assert (
        0 <= scenario.producer_blocks - 1 - scenario.leases_that_fit * scenario.prompt_blocks < scenario.prompt_blocks
    )
