"""A router's run with an engine that dies, or a client that leaves, at every point: nothing is lost, or kept."""

from collections import Counter

import pytest

from proof.cli.main import main
from proof.simulate.fuzz import plant
from proof.simulate.points import BOTH, BREAKS, Point, events_of, play_point, points, sweep
from proof.simulate.strikes import Strike

FEW = 700
"""One of so many points is played by `make check`."""
MANY = 8
"""One of so many is by `make planted`."""


def became(point: str) -> Counter[str]:
    """Returns what became of the three requests."""
    outcome = play_point(Point.read(point))
    assert outcome.violation is None
    return Counter({name: count for name, count in outcome.counts.items() if "." not in name})


def test_whatever_is_struck_every_promise_is_kept() -> None:
    found = sweep(list(points(FEW)))
    assert found.runs > 15
    assert [(str(outcome.point), outcome.violation) for outcome in found.failures] == []


@pytest.mark.sim
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_wherever_it_is_struck_every_promise_is_kept(part: int) -> None:
    found = sweep(list(points(MANY))[part::2])
    assert found.runs > 1000
    assert [(str(outcome.point), outcome.violation) for outcome in found.failures] == []
    for strike in Strike:
        assert any(strike is each for _, each in found.counts)


def test_a_point_is_before_or_after_each_event_of_the_run() -> None:
    count = events_of()
    assert count > 200
    dies = [point.event for point in points() if point.continues and (point.strike, point.target) == ("dies", "d0")]
    assert dies == list(range(count))


def test_what_a_dead_reader_had_is_read_by_another() -> None:
    assert became("d0,dies,100") == {"read at once": 2, "handed on": 1}


def test_a_stream_goes_on_only_with_a_router_that_continues_streams() -> None:
    began = next(event for event in range(120, 250) if became(f"d1,dies,{event}")["continued"])
    assert became(f"d1,dies,{began},{BREAKS}")["broken off"]


def test_without_any_reader_requests_are_refused_and_nothing_stays_held() -> None:
    assert became(f"{BOTH},dies,60")["refused"] == 3


def test_a_client_that_leaves_while_its_prefill_is_computed_leaves_nothing() -> None:
    assert became("r0,leaves,20")["client gone"] == 1


@pytest.mark.parametrize("text", ["d0,dies", "d9,dies,1", "r0,dies,1", "d0,leaves,1", "d0,dies,x", "d0,dies,1,falls"])
def test_what_is_no_point_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "router", "--point", text])
    assert f"{text!r} is no point such as" in capsys.readouterr().err


def test_a_point_is_read_as_it_is_written() -> None:
    for point in (Point(Strike.DIES, "d0", 7), Point(Strike.LEAVES, "r1", 0, continues=False)):
        assert Point.read(point.written) == point


def test_a_broken_promise_is_shown_with_the_command_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    point = "r0,leaves,20"
    with plant("gone_client_not_released"):
        assert play_point(Point.read(point)).violation is not None
    assert main(["simulate", "router", "--point", point, "--planted", "gone_client_not_released"]) == 1
    assert "freed: " in capsys.readouterr().out
    assert main(["simulate", "router", "--point", point]) == 0
    assert "every promise was kept" in capsys.readouterr().out
