"""The example of Ray Serve LLM as a process of its own, watched from outside."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from kvlease.metrics.scraped import Metrics
from kvlease.up.ports import free_port
from kvlease.up.processes import remove, shared_memory
from proof import ROOT

HOST = "127.0.0.1"
EXAMPLE = ROOT / "examples" / "ray" / "cpu.py"
UP_WITHIN_S = 240.0
"""Each of some ten processes imports vLLM by itself; alone on two cores that takes less than half of it."""
DOWN_WITHIN_S = 120.0
"""Two of Ray's processes notice only after half a minute that theirs are gone."""
PATIENCE_S = 120.0
POLL_S = 0.1
REPORT_INTERVAL_MS = 500
"""The time between two reports of Ray's metrics, instead of 10 s."""
SEATS = 2
"""The requests that D runs at once."""
PREFILL, DECODE = "Prefill:model", "Decode:model"
"""The names that Ray's builder gives the deployments."""
_SERVED = "ray_serve_event_loop_scheduling_latency_ms"
"""A metric of Ray's that tells which worker belongs to which deployment; those of engines do not."""


class Cluster:
    """The example's cluster: started and waited for as a context manager, and ended as by its user."""

    def __init__(self, connector: str, logs: Path) -> None:
        self.connector = connector
        self.log_path = logs / f"ray-{connector}.log"
        self.port, self.metrics_port, self.p_port, self.d_port = (free_port(HOST) for _ in range(4))
        # A short path: Ray's sockets are in it, and theirs have a limit of 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="kvlease-"))
        self._process: subprocess.Popen[bytes] | None = None
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(timeout=PATIENCE_S, limits=limits, trust_env=False)

    @property
    def url(self) -> str:
        """The address of the OpenAI API."""
        return f"http://{HOST}:{self.port}/v1"

    def __enter__(self) -> Self:
        try:
            self._start()
            self.wait_until(self._is_ready, "ready", UP_WITHIN_S)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _start(self) -> None:
        listen = ("--prefill-listen", f"{HOST}:{self.p_port}", "--decode-listen", f"{HOST}:{self.d_port}")
        ports = ("--port", str(self.port), "--metrics-port", str(self.metrics_port), *listen)
        how = ("--connector", self.connector, "--decode-seats", str(SEATS), "--temp-dir", str(self._folder / "r"))
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                (sys.executable, str(EXAMPLE), *ports, *how),
                env={
                    **os.environ,
                    "TMPDIR": str(self._folder),
                    "VLLM_RPC_BASE_PATH": str(self._folder),
                    "RAY_AUTH_MODE": "disabled",
                    "RAY_metrics_report_interval_ms": str(REPORT_INTERVAL_MS),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: every process of the cluster stays in it, whoever its parent becomes.
                start_new_session=True,
            )

    def _is_ready(self) -> bool:
        return b"ready: " in self.log_path.read_bytes()

    def end(self) -> list[str]:
        """Ends the cluster by SIGTERM, then whatever it has left, and returns the titles of that."""
        if self._process is None:
            return []
        segments = {path for member in self._members() for path in shared_memory(os.getpgid(member.pid))}
        self._process.terminate()
        deadline = time.monotonic() + DOWN_WITHIN_S
        while self._members() and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(POLL_S)
        left = self._members()
        titles = [_title(member) for member in left]
        for member in left:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        self._process = None
        remove(segments)
        shutil.rmtree(self._folder, ignore_errors=True)
        self.http.close()
        return titles

    def _members(self) -> list[psutil.Process]:
        """The living processes of the cluster's session."""
        assert self._process is not None
        return [process for process in psutil.process_iter() if _is_of(process, self._process.pid)]

    def replica(self, deployment: str) -> int | None:
        """The process, and the process group, of a deployment's one replica; None while there is none."""
        title = f"ray::ServeReplica:kvlease:{deployment}"
        found = [member.pid for member in self._members() if _title(member).startswith(title)]
        return found[0] if found else None

    def exported(self, name: str, deployment: str) -> float | None:
        """A figure of a deployment's engine as Ray exports it. None while it does not, which it does of a gauge
        wherever the engine has said nothing since the last time."""
        page = self.http.get(f"http://{HOST}:{self.metrics_port}/metrics").text
        samples = Metrics.parse(page, only=(name, _SERVED)).samples
        workers = {s.labels["WorkerId"] for s in samples if s.labels.get("deployment") == deployment}
        values = [s.value for s in samples if s.name == name and s.labels["WorkerId"] in workers]
        return sum(values) if values else None

    def count(self, port: int, name: str, **labels: str) -> float:
        """A figure of kvlease's, as it is now, at an engine's own door."""
        page = self.http.get(f"http://{HOST}:{port}/metrics").text
        return Metrics.parse(page, only=(name,)).value(name, **labels)

    def held(self) -> int:
        """The number of leases that hold blocks on P."""
        health = self.http.get(f"http://{HOST}:{self.p_port}/v1/kvlease/health").raise_for_status().json()
        return int(health["engines"][0]["held"]["leases"])

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Waits until the condition holds. Raises AssertionError with the log's end if it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self._process is not None
            alive = self._process.poll() is None
            if not alive or time.monotonic() > deadline:
                tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-40:])
                state = "runs" if alive else "has ended"
                raise AssertionError(f"not {what} within {timeout_s:g} s, and the example {state}:\n{tail}")
            time.sleep(POLL_S)


def _is_of(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def _title(process: psutil.Process) -> str:
    """The command line, which Ray and vLLM rewrite; empty for a process that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def end_now(group: int) -> float:
    """Sends SIGKILL to a replica and its engine, as a crash; returns when, by time.monotonic."""
    killed = time.monotonic()
    os.killpg(group, signal.SIGKILL)
    return killed
