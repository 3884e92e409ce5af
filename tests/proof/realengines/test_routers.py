"""Routers as processes: their command lines, and what is said where one is not here or does not run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proof.realengines import routers
from proof.realengines.routers import ROUTER_KINDS, RouterError, RouterKind, RouterSpec, StartedRouter, missing_router

P, D1, D2 = "http://127.0.0.1:21", "http://127.0.0.1:22", "http://127.0.0.1:23"


def spec(kind: RouterKind, **other: Any) -> RouterSpec:
    return RouterSpec(kind=kind, prefill=(P,), decode=(D1, D2), **other)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that were run. The processes end at once."""
    commands: list[list[str]] = []
    start = subprocess.Popen

    def popen(command: list[str], **how: Any) -> Any:
        commands.append(command[1:])
        return start([sys.executable, "-c", ""], **how)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(routers, "missing_router", lambda _: None)
    return commands


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("kvlease", f"--prefill {P} --decode {D1} --decode {D2}"),
        ("vllm-router", f"--prefill {P} --decode {D1} --decode {D2}"),
        (
            "toy",
            "--prefiller-hosts 127.0.0.1 --prefiller-ports 21 "
            "--decoder-hosts 127.0.0.1 127.0.0.1 --decoder-ports 22 23",
        ),
    ],
)
def test_a_router_is_told_its_engines(kind: RouterKind, words: str, run: list[list[str]], tmp_path: Path) -> None:
    router = StartedRouter(spec(kind, options=("--more",)), tmp_path)
    with pytest.raises(RouterError, match=f"^{kind} died; its log is {tmp_path}"):
        router.start()
    (command,) = run
    assert f" {words} " in f" {' '.join(command)} "
    assert command[-1] == "--more"
    assert str(router.port) in command


def test_another_module_takes_a_routers_place(run: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(RouterError), StartedRouter(spec("kvlease", module="some.module", name="some"), tmp_path):
        pass
    assert run[0][:2] == ["-m", "some.module"]
    assert (tmp_path / "some.log").exists()


def test_a_router_that_is_not_here_says_what_fetches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routers, "ROUTERS", tmp_path / "none")
    monkeypatch.setattr(routers, "TOY_PROXY", tmp_path / "none.py")
    missing = {kind for kind in ROUTER_KINDS if missing_router(kind)}
    assert missing == {"vllm-router", "toy"}
    for kind in missing:
        with pytest.raises(RouterError, match="`make routers` fetches it"):
            StartedRouter(spec(kind), tmp_path)


def test_a_router_that_is_not_running_has_no_process(tmp_path: Path) -> None:
    router = StartedRouter(spec("kvlease"), tmp_path)
    router.kill()
    with pytest.raises(RouterError, match="not running"):
        _ = router.pid
