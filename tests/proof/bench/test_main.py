"""The command `python -m proof bench`: arguments, exit statuses, and benchmarks that fail."""

from pathlib import Path

import pytest

from kvlease.console.files import write
from proof.bench.engines.pair import choose_bench_cores
from proof.bench.frame import child, one
from proof.bench.frame.child import Ended, run_child
from proof.bench.frame.document import Document, read
from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.progress import said, say
from proof.bench.frame.registry import BENCHMARKS, Benchmark, load
from proof.cli.main import main
from proof.realengines.cores import Cores


def found(name: str, met: bool | None) -> Document:
    result = Result(name, "a title", (FigureRow("a row", "µs", Spread.of([1.0])),), (Goal("a goal", "a figure", met),))
    return Document.of(result, effort=Effort.SHORT, at="2026-01-02T03:04:05", took_s=1.0, commit="abc", machine={})


def children(monkeypatch: pytest.MonkeyPatch, goals: dict[str, bool | str | None]) -> list[tuple[str, Effort]]:
    """Benchmarks that find their goal met, missed or not measured, or fail saying why."""
    ran: list[tuple[str, Effort]] = []

    def run(name: str, effort: Effort, directory: Path, _: object) -> Ended:
        ran.append((name, effort))
        outcome = goals[name]
        if isinstance(outcome, str):
            return Ended(3, outcome)
        write(directory / f"{name}.json", found(name, outcome))
        return Ended(0, "")

    monkeypatch.setattr(child, "run_child", run)
    return ran


@pytest.mark.parametrize(
    ("goals", "status"),
    [
        ({"renewal": True, "step": True}, 0),
        ({"renewal": True, "step": None}, 0),
        ({"renewal": False, "step": True}, 1),
        ({"renewal": "no vllm", "step": True}, 3),
        ({"renewal": "no vllm", "step": False}, 3),
    ],
)
def test_the_exit_status_says_what_came_of_it(
    goals: dict[str, bool | str | None], status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = children(monkeypatch, goals)
    assert main(["bench", "--only", "step,renewal", "--short", "--out", str(tmp_path)]) == status
    # A benchmark that fails does not keep the others from running.
    assert ran == [("renewal", Effort.SHORT), ("step", Effort.SHORT)]


def test_one_that_failed_says_why_and_where_to_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    children(monkeypatch, {"renewal": "cannot run: no vllm here", "step": True})
    main(["bench", "--only", "renewal,step", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "cannot run: no vllm here" in printed
    assert "renewal.log" in printed
    assert "could not run: renewal" in printed
    assert "a figure" in printed


def test_the_summary_shows_what_was_run_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = children(monkeypatch, {"renewal": False})
    assert main(["bench", "--summary", "--out", str(tmp_path)]) == 3
    assert "holds no figures" in capsys.readouterr().out
    main(["bench", "--only", "renewal", "--out", str(tmp_path)])
    assert main(["bench", "--summary", "--out", str(tmp_path)]) == 1
    assert "MISSED" in capsys.readouterr().out
    assert ran == [("renewal", Effort.FULL)]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wire.json").write_text("{}")
    assert main(["bench", "--summary", "--out", str(tmp_path)]) == 3
    assert "wire.json" in capsys.readouterr().out


def test_list_names_all_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(BENCHMARKS)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "not-there", Benchmark("core.not_there", "nothing"))
    with pytest.raises(CannotRun, match=r"not-there needs proof\.bench\.core\.not_there.*make bench"):
        load("not-there")


def test_one_core_is_too_few_for_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5, 3})
    monkeypatch.setattr("proof.bench.frame.errors.find_spec", lambda _: object())
    assert choose_bench_cores() == Cores(producer=3, decoder=5)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3})
    with pytest.raises(CannotRun, match="need 2 processor cores, this process may use 1: give it more"):
        choose_bench_cores()


def test_a_benchmark_leaves_its_document_and_plots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(one, "load", lambda _: lambda _: Result("step", "a title", (), (Goal("g", "f", True),)))
    assert one.main("step", Effort.SHORT, tmp_path) == 0
    assert read(tmp_path / "step.json").effort is Effort.SHORT


def test_a_benchmark_that_cannot_run_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(effort: Effort) -> Result:
        raise CannotRun(f"no engine for {effort.value}")

    monkeypatch.setattr(one, "load", lambda _: run)
    assert one.main("step", Effort.FULL, tmp_path) == 3
    assert said(capsys.readouterr().out) == "cannot run: no engine for full"
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_apart_from_what_others_write(capsys: pytest.CaptureFixture[str]) -> None:
    say("10 leases")
    assert said(capsys.readouterr().out) == "10 leases"
    assert said("INFO 10 leases\n") is None


def test_a_child_ends_with_a_status_its_last_words_and_a_log(tmp_path: Path) -> None:
    """A real child process finds the package of benchmarks, and fails for a name that none has."""
    shown: list[str] = []
    ended = run_child("no-such", Effort.SHORT, tmp_path, shown.append)
    assert ended.status == 3
    assert shown == [ended.last_words]
    assert ended.last_words.startswith("cannot run: no-such is no benchmark: choose from renewal, step")
    assert (tmp_path / "no-such.log").is_file()
