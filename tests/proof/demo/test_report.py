"""The end of the demo: the table, the file and the plot."""

import json
from pathlib import Path

import pytest

from kvlease.console.files import write
from kvlease.console.origin import ENGINE, commit, versions
from proof.demo.outcome import ActOutcome, Answers, Counts, Event
from proof.demo.plot import draw
from proof.demo.promises import judge
from proof.demo.report import document, sentences, table
from tests.console.shown import shown

CURVE = [(-5.0, 0), (-1.0, 300), (0.0, 300), (5.9, 0)]
STOCK = ActOutcome(
    "stall",
    "stock",
    6.0,
    answers=Answers(right=0, wrong=6, failed=0, statuses={200: 6}),
    counts=Counts(leases_lost=6),
    held=CURVE,
    events=[Event(0.0, "D stopped"), Event(7.2, "D goes on", decides=True)],
)
LEASED = ActOutcome(
    "stall",
    "kvlease",
    6.0,
    answers=Answers(right=6, wrong=0, failed=0, statuses={200: 6}),
    counts=Counts(6, 0, {"revoked": 6}, {"expired": 6}),
    held=CURVE,
)
CRASH = ActOutcome("crash", "stock", 30.0, freed_after_s=24.81, held=CURVE)
FREE = ActOutcome(
    "stall-free",
    "kvlease",
    6.0,
    answers=Answers(right=6, wrong=0, failed=0, statuses={200: 6}),
    counts=Counts(6, 5, {"intact": 5, "revoked": 1}),
    held=CURVE,
)


def test_the_table_shows_stock_beside_kvlease_and_whether_the_promise_was_kept() -> None:
    (row,) = [line for line in shown(table(judge([STOCK, LEASED]))).splitlines() if "P's memory reused" in line]
    assert "6 of 6, HTTP 200" in row
    assert "0 of 6" in row
    assert "none" in row
    assert "kept" in row


def test_a_broken_promise_is_plain_to_see() -> None:
    wrong = ActOutcome("stall", "kvlease", 6.0, answers=STOCK.answers)
    assert "BROKEN" in shown(table(judge([wrong])))


def test_prefills_that_were_computed_again_are_told_of_all() -> None:
    (row,) = [line for line in shown(table(judge([FREE]))).splitlines() if "computed again" in line]
    assert "1 of 6" in row
    assert "BROKEN" in row


def test_what_was_not_played_is_a_dash_and_seconds_have_their_unit() -> None:
    text = shown(table(judge([CRASH])))
    assert "24.8 s" in text
    assert "lease 30 s" in text
    assert " - " in text
    assert "kept" not in text


def test_the_file_holds_every_figure_and_the_versions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "demo.json"
    write(path, document([STOCK, LEASED], judge([STOCK, LEASED]), {"lease_s": 6.0}))
    content = json.loads(path.read_text())
    assert content["versions"] == versions(ENGINE)
    assert content["commit"] == commit()
    assert {"kvlease", "vllm", "nixl", "torch", "python"} == set(content["versions"])
    assert content["settings"] == {"lease_s": 6.0}
    assert content["promises"][0] | {"figure": ""} == {
        "scenario": "stall",
        "figure": "",
        "promised": "none",
        "stock": 6,
        "kvlease": 0,
        "kept": True,
    }
    assert content["scenarios"][0]["answers"]["wrong"] == 6
    assert content["scenarios"][1]["counts"]["fence_checks"] == {"revoked": 6}
    assert content["scenarios"][0]["held"][1] == [-1.0, 300]


@pytest.mark.parametrize("outcomes", [[STOCK], [FREE], [STOCK, LEASED, FREE, CRASH]])
def test_the_plot_is_a_png(outcomes: list[ActOutcome], tmp_path: Path) -> None:
    path = tmp_path / "new" / "demo.png"
    draw(outcomes, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_scenario_ends_with_what_came_of_it() -> None:
    assert sentences(STOCK) == ["of 6 answers: 6 wrong (HTTP 200)"]
    assert sentences(LEASED) == ["of 6 answers: 6 right (HTTP 200)", "the fence was read after the data: 6 revoked"]
    assert sentences(CRASH) == []
