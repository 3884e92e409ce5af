"""Figures, their JSON, tables and plots, with values that nobody measured."""

from pathlib import Path

import pytest

from kvlease.console.files import write
from proof.bench.frame.document import Document, read, read_all
from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Curves, Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.machine import describe, gpu, processor
from proof.bench.frame.plots import draw
from proof.bench.frame.report import figures_table, goals_table, notes_list, page, ratio_text, spread_text
from tests.console.shown import shown

SPREAD = Spread.of([1.0, 2.0, 3.0, 4.0, 10.0])
RESULT = Result(
    name="renewal",
    title="a renewal",
    rows=(
        FigureRow("10 leases", "µs", SPREAD, Spread.of([540.0]), Spread.of([1 / 540])),
        FigureRow("alone", "B", Spread.of([33])),
    ),
    goals=(Goal("under 10 µs", "3 µs", True), Goal("flat", "12 times", False), Goal("on a GPU", "none is here", None)),
    curves=(
        Curves(
            "leases", "µs", {"kvlease": [(10, SPREAD), (100, SPREAD)], "stock": [(10, SPREAD)]}, log_x=True, limit=3
        ),
        Curves("leases", "B", {"TP 1": [(10, SPREAD)], "TP 2": [(10, SPREAD)]}),
    ),
    notes=("nothing was left out",),
)


def document(name: str = "renewal", effort: Effort = Effort.FULL) -> Document:
    result = RESULT if name == "renewal" else Result(name, "another", (), (Goal("flat", "flat", True),))
    machine = {"processor": "a good one", "python": "3.11"}
    return Document.of(
        result, effort=effort, at="2026-01-02T03:04:05+00:00", took_s=12.34, commit="abc", machine=machine
    )


def test_a_spread_is_median_quartiles_and_extremes() -> None:
    assert (SPREAD.median, SPREAD.low, SPREAD.high, SPREAD.least, SPREAD.most, SPREAD.count) == (3, 2, 4, 1, 10, 5)
    assert Spread.of([7.0]) == Spread(7, 7, 7, 7, 7, 1)
    with pytest.raises(ValueError, match="no values were measured"):
        Spread.of([])


def test_spreads_and_ratios_in_words() -> None:
    assert spread_text(SPREAD, "µs") == "3 µs (2 to 4)"
    assert spread_text(Spread.of([1234567.0]), "B") == "1,234,567 B"
    assert spread_text(None, "µs") == "-"
    assert ratio_text(SPREAD) == "3 (2 to 4)"
    assert ratio_text(Spread.of([1 / 540])) == "1/540"
    assert ratio_text(Spread.of([0.0])) == "0"
    assert ratio_text(None) == "-"


def test_the_tables_show_figures_goals_and_notes() -> None:
    text = shown(figures_table(document()), goals_table([document()]), width=160) + notes_list(document())
    for part in ("3 µs (2 to 4)", "540 µs", "1/540", "33 B", "met", "MISSED", "not measured", "nothing was left out"):
        assert part in text
    summary = shown(goals_table([document(), document("step", Effort.SHORT)]), width=160)
    assert summary.count("full, commit abc, 2026-01-02, 12 s") == 1
    assert "short, commit abc, 2026-01-02, 12 s" in summary
    assert "12 times" in summary


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "renewal.json"
    write(path, document())
    found = read(path)
    assert [goal.text for goal in found.missed] == ["flat"]
    assert found.rows[0].ours == SPREAD
    assert found.took_s == 12.3
    assert dict(found.curves[0].series)["kvlease"][0] == (10, SPREAD)
    write(tmp_path / "again.json", found)
    assert read(tmp_path / "again.json") == found


def test_all_that_was_run_is_read_in_order(tmp_path: Path) -> None:
    for name in ("step", "renewal"):
        write(tmp_path / f"{name}.json", document(name))
    assert [found.name for found in read_all(tmp_path, ["renewal", "step", "wire"])] == ["renewal", "step"]
    (tmp_path / "wire.json").write_text('{"name": "wire"}')
    with pytest.raises(CannotRun, match=r"wire\.json was not written by.*remove it or run it again"):
        read_all(tmp_path, ["renewal", "step", "wire"])


def test_every_set_of_curves_becomes_a_picture(tmp_path: Path) -> None:
    written = draw("renewal", "a renewal", RESULT.curves, tmp_path / "new")
    assert [path.name for path in written] == ["renewal.png", "renewal-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert draw("renewal", "a renewal", (), tmp_path) == []


def test_the_machine_is_described_without_its_name(tmp_path: Path) -> None:
    import platform

    machine = describe()
    assert {"processor", "cores", "memory", "kernel", "python", "vllm", "nixl", "kvlease"} <= machine.keys()
    assert not any(platform.node() in value or "/" in value for value in machine.values())
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    assert processor(tmp_path / "cpuinfo") == platform.machine()


def test_the_machine_s_gpu_is_named(tmp_path: Path) -> None:
    assert gpu(tmp_path) == "none"
    (tmp_path / "0000:00:05.0").mkdir()
    (tmp_path / "0000:00:05.0" / "information").write_text("Model: \t\t Some GPU 80GB\nIRQ:   \t\t 12\n")
    assert gpu(tmp_path) == "Some GPU 80GB"


def test_the_page_has_every_goal_and_every_figure() -> None:
    text = page([document()])
    assert "| renewal | flat | 12 times | MISSED |" in text
    assert "| 10 leases | 3 µs (2 to 4) | 540 µs | 1/540 |" in text
    assert "| alone | 33 B | - | - |" in text
    assert "- nothing was left out" in text
    assert "*full, commit abc, 2026-01-02, 12 s*" in text


def test_a_ratio_near_one_is_shown_to_the_thousandth() -> None:
    assert ratio_text(Spread.of([1.004])) == "1.004"
