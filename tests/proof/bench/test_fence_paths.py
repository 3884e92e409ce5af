"""The fence's benchmark measures the paths that were asked for, and says why it does not measure the others."""

import os
import sys
from pathlib import Path

import pytest

from proof.bench.fence import measure as fence
from proof.bench.fence import setting
from proof.bench.fence.consumer import Reads
from proof.bench.fence.paths import DATA_VARIABLE, PATHS, asked, left_out, settings_of
from proof.bench.fence.setting import Setting
from proof.bench.frame import child
from proof.bench.frame.child import Ended
from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Effort, Goal, Result
from proof.cli.main import main

READ = Reads(alone_s=3e-3, noticed_s=3e-3, fenced_s=3.01e-3, fence_s=10e-6, ready_s=0.0)


def run_without_reading(monkeypatch: pytest.MonkeyPatch, data: str, no_gpu: str) -> tuple[Result, list[Setting]]:
    """Runs the benchmark where every read takes the same, and returns what it found and the settings it measured."""
    measured: list[Setting] = []

    def measure(setting: Setting, repeats: dict[int, int]) -> fence.Found:
        measured.append(setting)
        return {size: [READ] * times for size, times in repeats.items()}

    monkeypatch.setenv(DATA_VARIABLE, data)
    monkeypatch.setattr(fence, "require", lambda *_: None)
    monkeypatch.setattr(fence, "no_gpu", lambda: no_gpu)
    monkeypatch.setattr(fence, "measure", measure)
    return fence.run(Effort.SHORT), measured


def goals(result: Result) -> dict[str, Goal]:
    return dict(zip(PATHS, result.goals, strict=True))


def test_without_a_gpu_the_host_is_measured_and_its_goals_say_why_no_other_is(monkeypatch: pytest.MonkeyPatch) -> None:
    result, measured = run_without_reading(monkeypatch, "", "PyTorch finds no GPU here")
    assert [(each.memory, each.tls) for each in measured] == [("DRAM", None)] * 2 + [("DRAM", "tcp")] * 2
    found = goals(result)
    assert (found["host"].met, found["host-tcp"].met) == (True, True)
    for name in ("device", "device-ipc"):
        assert found[name].met is None
        assert found[name].found == "not measured: PyTorch finds no GPU here"


def test_with_a_gpu_host_and_device_are_measured_in_one_run_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    result, measured = run_without_reading(monkeypatch, "", "")
    assert [each.memory for each in measured] == ["DRAM"] * 4 + ["VRAM"] * 4
    assert all(goal.met for goal in result.goals)
    assert len({goal.text for goal in result.goals}) == len(PATHS)
    of_settings = [row.what for row in result.rows if not row.what.startswith(" ")]
    assert len(set(of_settings)) == len(of_settings) == len(measured) * len(fence.REPEATS[Effort.SHORT])
    assert sum("on a GPU" in what for what in of_settings) == len(of_settings) / 2
    assert len(result.curves[0].series) == len(measured)


def test_only_what_was_asked_for_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    result, measured = run_without_reading(monkeypatch, "host,device", "")
    assert [(each.memory, each.workers) for each in measured] == [("DRAM", 1), ("DRAM", 8), ("VRAM", 1), ("VRAM", 8)]
    assert goals(result)["host-tcp"].found == "not measured: --data leaves it out"
    assert goals(result)["device-ipc"].met is None


def test_a_gpu_that_was_asked_for_and_is_not_there_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CannotRun, match="--data device wants a GPU, and PyTorch finds no GPU here: leave it out"):
        run_without_reading(monkeypatch, "host,device", "PyTorch finds no GPU here")


def test_a_path_that_is_impossible_and_left_out_is_impossible() -> None:
    assert left_out(["host"], "no GPU")["device"] == "no GPU"
    assert left_out(["host"], "")["device"] == "--data leaves it out"


def test_a_machine_with_a_gpu_gets_its_copies_where_the_transports_are_named() -> None:
    assert {each.tls for path in PATHS.values() for each in settings_of(path, gpu=True)} == {None, "tcp,cuda_copy"}
    assert {each.tls for path in PATHS.values() for each in settings_of(path, gpu=False)} == {None, "tcp"}


def test_only_the_path_over_cuda_ipc_tells_ucx_to_use_it() -> None:
    told = {name: path for name, path in PATHS.items() if _is_told(settings_of(path, gpu=True))}
    assert list(told) == ["device-ipc"]
    assert told["device-ipc"].wants_gpu


def _is_told(settings: list[Setting]) -> bool:
    (told,) = {"UCX_CUDA_IPC_ENABLE_GET_ZCOPY" in each.environment for each in settings}
    return told


@pytest.mark.parametrize(
    ("built_for", "available", "reason"),
    [
        (None, False, "PyTorch 2.0 is built without CUDA"),
        ("13.0", False, "PyTorch 2.0 finds no GPU here"),
        ("13.0", True, ""),
    ],
)
def test_why_there_is_no_gpu(
    built_for: str | None, available: bool, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = (
        "from types import SimpleNamespace\n__version__ = '2.0'\n"
        f"version = SimpleNamespace(cuda={built_for!r})\ncuda = SimpleNamespace(is_available=lambda: {available})\n"
    )
    (tmp_path / "torch.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert setting.no_gpu() == reason


def fence_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A child that runs nothing; what it would have been asked for."""
    seen: list[list[str]] = []

    def run(*_: object) -> Ended:
        seen.append(list(asked()))
        return Ended(3, "nothing is run here")

    monkeypatch.setattr(child, "run_child", run)
    # What the command sets is put back after the test.
    monkeypatch.setenv(DATA_VARIABLE, "")
    return seen


def test_the_command_hands_the_places_to_the_process_of_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = fence_runs(monkeypatch)
    main(["bench", "--only", "fence", "--out", str(tmp_path)])
    main(["bench", "--only", "fence", "--data", "host,device-ipc", "--out", str(tmp_path)])
    assert seen == [[], ["host", "device-ipc"]]


def test_places_for_no_benchmark_of_the_fence_and_unknown_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fence_runs(monkeypatch)
    assert main(["bench", "--only", "step", "--data", "host", "--out", str(tmp_path)]) == 2
    assert "--data is of the benchmark fence" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--only", "fence", "--data", "disk"])
    assert "'disk' is no place for the data: choose from host, host-tcp" in capsys.readouterr().err
    assert seen == []
    assert os.environ[DATA_VARIABLE] == ""
