"""The benchmark of watched engines: its rows and goal, its collector, its watchers, and the agents' books."""

import asyncio
from pathlib import Path

import httpx
import pytest

from proof.bench.engines.figures import MEASURES, TurnSample
from proof.bench.frame.figures import Effort
from proof.bench.watched import books
from proof.bench.watched.figures import OFF, ON, Heard, WatchedTurn, by_start, curves, goals, notes, rows
from proof.bench.watched.measure import AMOUNTS
from proof.bench.watched.watchers import POLLED, SCRAPED, Told, watching
from proof.realengines.engine import EngineError
from tests.proof.bench.spreads import known


def sample(throughput: float) -> TurnSample:
    return TurnSample(throughput, first_token_ms=100.0, token_ms=10.0, producer_ms=50.0, decoder_ms=50.0)


def turns(*ratios: float, different: int = 0) -> list[WatchedTurn]:
    """Two turns of each start of the engines, alike."""
    return [
        WatchedTurn(start, {ON: sample(10 * ratio), OFF: sample(10)}, different)
        for start, ratio in enumerate(ratios)
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("ratios", "met", "said"),
    [
        ([1.0] * 10, True, "ratio 1.000"),
        ([0.98] * 10, False, "ratio 0.980"),
        ([0.96, 0.97, 0.98, 0.99, 1.0, 1.0, 1.01, 1.02, 1.03, 1.04], None, "cannot be told"),
        ([1.0], None, "too few starts"),
    ],
)
def test_the_goal_is_told_from_noise(ratios: list[float], met: bool | None, said: str) -> None:
    (goal,) = goals(turns(*ratios))
    assert goal.met is met
    assert said in goal.found


def test_the_starts_decide_and_not_their_turns() -> None:
    assert by_start(turns(0.9, 1.1), MEASURES[0]) == pytest.approx([0.9, 1.1])


def test_rows_notes_and_curves_are_of_all_turns() -> None:
    found = {row.what: row for row in rows(turns(0.9, 1.1))}
    assert known(found["throughput"].ratio).count == 4
    assert known(found["throughput, start by start"].ratio).count == 2
    (curve,) = curves(turns(0.9, 1.1))
    assert [len(points) for points in curve.series.values()] == [4]
    text = " ".join(
        notes(turns(1.0, different=3), AMOUNTS[Effort.FULL].traffic, Heard(leases=5, event_bytes=2_000_000))
    )
    assert "5 leases told 2.0 MB of events" in text
    assert "6 answers that are not the same" in text


def test_books_that_a_journal_hears_write_every_lease(tmp_path: Path) -> None:
    heard = books.heard_by_a_journal(tmp_path)
    assert heard.spend(1_000) > 0
    (file,) = tmp_path.glob("events-*")
    # 2,000 leases warm the books.
    assert file.read_text().count('"event":"ended"') == 3_000


def test_watchers_read_each_page_and_say_which_is_none() -> None:
    asked: list[str] = []

    async def watch(status: int) -> Told:
        told = Told()

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(str(request.url))
            return httpx.Response(status)

        before = asyncio.all_tasks()
        async with asyncio.timeout(10), watching(["http://p"], ["http://p:9"], told, httpx.MockTransport(answer)):
            while told.pages < len(POLLED) + len(SCRAPED) and asyncio.all_tasks() != before:
                await asyncio.sleep(0)
        return told

    assert asyncio.run(watch(200)).pages == len(POLLED) + len(SCRAPED)
    assert set(asked) == {f"http://p{page}" for page in POLLED} | {f"http://p:9{page}" for page in SCRAPED}
    with pytest.raises(EngineError, match="could not be watched"):
        asyncio.run(watch(404))
