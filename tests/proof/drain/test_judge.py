"""A drain is judged by what its clients saw, and a run in which nothing could break keeps no promise."""

from dataclasses import replace
from typing import Any

import pytest

from proof.drain.judge import LONGER_S, broken
from proof.drain.outcome import RequestEnd, StopOutcome, StopsRun
from proof.drain.report import describe_stop, describe_stretch, document, table

STOP = StopOutcome(door="vllm", began_at=100.0, ended_at=103.5, gone_at=104.0, left=0, clean=True)


def request(**other: Any) -> RequestEnd:
    """A request whose offer came before the stop, and which was read 3 s after its beginning, but for what is given."""
    usual: dict[str, Any] = {
        "fate": "right",
        "began_at": 99.0,
        "offered_at": 99.5,
        "read_at": 103.0,
        "ended_at": 105.0,
    }
    return RequestEnd(**{**usual, **other})


def run(*requests: RequestEnd, drained: bool = True, **of_stop: Any) -> StopsRun:
    stop = replace(STOP, **of_stop)
    return StopsRun(connector="kvlease", drained=drained, stops=[stop], requests=requests or [request()])


def test_a_drain_that_ends_with_its_longest_read_breaks_nothing() -> None:
    good = run()
    assert broken([good]) == []
    assert (good.out(STOP), good.left(STOP), good.longest_read_s(STOP)) == (1, 0, 3.0)


@pytest.mark.parametrize(
    "bad",
    [
        run(request(fate="lost", said="HTTP 500")),
        run(request(fate="wrong")),
        run(left=1),
        run(ended_at=103.0 + LONGER_S + 0.01),
        # Nothing was out when it began, so that it shows nothing.
        run(request(offered_at=None)),
        run(request(read_at=99.9)),
    ],
)
def test_each_promise_can_be_broken(bad: StopsRun) -> None:
    assert len(broken([bad])) >= 1


def test_a_stop_without_a_drain_is_shown_and_may_lose() -> None:
    at_once = run(request(fate="lost", read_at=None), drained=False, door=None, ended_at=100.0, left=None)
    assert broken([at_once]) == []
    assert at_once.left(at_once.stops[0]) == 1
    assert broken([replace(at_once, requests=[request(fate="wrong")])]) != []
    stock = replace(at_once, connector="stock", requests=[request(fate="wrong")])
    assert broken([stock]) == []


def test_a_read_of_what_was_offered_after_the_stop_is_not_waited_for() -> None:
    late = request(offered_at=103.6, read_at=110.0)
    declined = request(offered_at=None, read_at=120.0)
    assert run(request(), late, declined).longest_read_s(STOP) == 3.0
    begun_before = request(offered_at=103.4, read_at=106.0)
    assert run(request(), begun_before).longest_read_s(STOP) == 6.0


def test_the_table_and_the_file_have_every_figure() -> None:
    runs = [run(), run(request(fate="lost"), drained=False, door=None, ended_at=100.0, left=None)]
    text = table(runs).markdown()
    assert "| requests lost | 0 | 1 | none | kept |" in text
    assert "| a drain longer than its longest read by | 0.5 s | - | at most 1 s | kept |" in text
    assert "| … beside that read: median | +0.50 s (+0.50 to +0.50) | - |  |  |" in text
    (first, second) = document(runs)["runs"]
    assert first["stops"][0]["began_at"] == 1.0, "times begin with the first request"
    assert (first["stops"][0]["drain_s"], second["answers"]) == (3.5, {"lost": 1})
    assert "drained through vLLM's API server in 3.50 s, none left" in describe_stop(runs[0], 1, 50)
    assert describe_stretch(runs[1]) == "1 requests: 1 lost; 1 with P's prefill"
