"""The benchmark of watched engines runs on real ones, with everything on; how fast they are, `make bench` judges."""

from pathlib import Path

import pytest

from proof.bench.frame.document import read
from proof.bench.frame.figures import Effort
from proof.bench.frame.one import main

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(400)]


def test_watched_engines_answer_as_others_and_tell_everything(tmp_path: Path) -> None:
    assert main("watched", Effort.SHORT, tmp_path) == 0
    found = read(tmp_path / "watched.json")
    assert [goal.met for goal in found.goals] == [None], "one start is too few to tell"
    assert any("the same answers by token ids" in note for note in found.notes)
