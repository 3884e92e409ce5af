"""Fake engines as processes, each of which can be killed and started again at its port."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from kvlease.errors import KvLeaseError
from kvlease.testing.http_engines import Behaviour
from kvlease.up.ports import free_port
from proof import ROOT
from proof.realengines.engine import pinned
from proof.realengines.spec import HOST

_STARTS_WITHIN_S = 30.0
_ANSWERS_WITHIN_S = 10.0


class LoadError(KvLeaseError, RuntimeError):
    """A process of the play did not do what it has to. The message says which one, and where its log is."""


class CoreProcess:
    """A process on one core, with a log, that is over when its context is left."""

    def __init__(self, name: str, command: Sequence[str], core: int, logs: Path, **environment: str) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = command
        self._core = core
        self._environment = os.environ | environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        if self._process is None:
            raise LoadError(f"{self.name} does not run")
        return self._process.pid

    def start(self, *, cwd: Path = ROOT) -> None:
        """Starts it; what it writes is added to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with pinned((self._core,)), self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=cwd, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def await_answer(self, url: str) -> None:
        """Waits until it answers there. Raises `LoadError`."""
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while True:
            # The end of the process is looked for first, so that its last chance is after it began to listen.
            over = self._process is None or self._process.poll() is not None
            if answers(url):
                return
            if over or time.monotonic() > deadline:
                raise LoadError(f"{self.name} does not answer at {url}; see {self.log}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class EngineProcess:
    """A fake engine at a port that stays its own over restarts."""

    def __init__(self, role: Literal["prefill", "decode"], name: str, core: int, logs: Path, **options: float) -> None:
        self.role = role
        self.name = name
        self.port = free_port(HOST)
        self.url = f"http://{HOST}:{self.port}"
        command = [sys.executable, "-m", "kvlease.testing.http_engines", "--role", role, "--name", name]
        command += ["--port", str(self.port)]
        for option, value in options.items():
            command += [f"--{option.replace('_', '-')}", str(value)]
        self._process = CoreProcess(name, command, core, logs, PYTHONPATH=_python_path())
        self.alive = False

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process.start()
        self._process.await_answer(f"{self.url}/health")
        self.alive = True

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.alive = False
        self._process.kill()

    def behave(self, behaviour: Behaviour) -> None:
        """Sets what it does from now on."""
        _ask(f"{self.url}/behaviour", msgspec.json.encode(behaviour))

    def books(self) -> Mapping[str, Any]:
        """Returns what it has counted since it started."""
        found: Mapping[str, Any] = msgspec.json.decode(_ask(f"{self.url}/books"))
        return found


@contextmanager
def engine_processes(
    prefill: int, decode: int, core: int, logs: Path, **options: float
) -> Iterator[list[EngineProcess]]:
    """Starts some engines of both roles, prefill engines first, and ends them."""
    engines = [EngineProcess("prefill", f"P{number}", core, logs, **options) for number in range(1, prefill + 1)]
    engines += [EngineProcess("decode", f"D{number}", core, logs, **options) for number in range(1, decode + 1)]
    with ExitStack() as stack:
        for engine in engines:
            stack.callback(engine.kill)
            engine.start()
        yield engines


def urls(engines: Sequence[EngineProcess], role: str) -> list[str]:
    """Returns the URLs of the engines of one role."""
    return [engine.url for engine in engines if engine.role == role]


def processor_s(pid: int) -> float:
    """Returns the processor time that a process and its children have taken."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def answers(url: str) -> bool:
    """Returns whether somebody answers there with a status under 500."""
    try:
        _ask(url)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def _ask(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=_ANSWERS_WITHIN_S) as answer:
        content: bytes = answer.read()
    return content


def _python_path() -> str:
    """The places where a child finds what this process imports."""
    return os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
