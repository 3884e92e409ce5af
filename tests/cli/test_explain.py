"""`kvlease explain`: found, not found, and asked wrongly."""

import json
from pathlib import Path

import pytest

from kvlease.cli import main
from tests.cli.bare import refused_bare
from tests.events.stage import Stage
from tests.events.test_stories import ON_D, handed_over


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stage = Stage(tmp_path)
    handed_over(stage)
    stage.d.read(ON_D)
    stage.run(0.5)
    stage.flush()
    return tmp_path


def test_a_story_ends_with_a_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "cmpl-abc", "--events", str(folder)]) == 0
    page = capsys.readouterr().out.splitlines()
    assert page[0] == "Request cmpl-abc"
    assert page[-2:] == ["Verdict: The prefill was read in time, found intact, and used.", "Do:      Nothing."]
    assert max(map(len, page)) <= 80


def test_several_places_may_be_given(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [str(folder / "prefill-0"), *map(str, (folder / "decode-1").iterdir())]
    assert main(["explain", "abc", "--events", *places, "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert (story["found"], story["ending"]) == (True, "used")
    assert main(["explain", "abc", "--events", places[0], "--events", places[1]]) == 0


def test_a_request_that_nobody_knows_ends_with_status_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "abd", "--events", str(folder)]) == 1
    page = capsys.readouterr().out
    assert "no event of request abd" in page
    assert "decode-1, prefill-0" in page
    assert main(["explain", "abd", "--events", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"request": "abd", "found": False, "near": []}


@pytest.mark.parametrize("meant", ["ABC", ' "abc" '])
def test_a_near_miss_is_named(folder: Path, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", meant, "--events", str(folder)]) == 1
    assert "There are events of abc: did you mean that?" in capsys.readouterr().out


def test_a_place_without_events_is_a_bad_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "abc", "--events", str(tmp_path)]) == 2
    assert "has no file named" in capsys.readouterr().err


def test_it_needs_msgspec_alone(folder: Path) -> None:
    script = f"""
from kvlease.cli import main
assert main(["explain", "abc", "--events", {str(folder)!r}]) == 0
sys.exit(3)
"""
    assert "found intact, and used" in refused_bare(script)
