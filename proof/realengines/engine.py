"""A real vLLM engine on this machine: started, watched, stopped and continued, killed."""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from kvlease.errors import KvLeaseError
from kvlease.metrics.scraped import Metrics
from kvlease.up.last_words import last_words
from kvlease.up.ports import free_port
from kvlease.up.processes import (
    end_group,
    group_members,
    remove,
    shared_memory,
    signal_group,
)
from proof import ROOT
from proof.realengines.metrics import CACHE_USAGE
from proof.realengines.spec import HOST, EngineSpec, command, environment

READY_WITHIN_S = 180.0
TERMINATED_WITHIN_S = 30.0
POLL_S = 0.05
_HTTP_TIMEOUT_S = 30.0
_WORKER_TITLE = "VLLM::Worker"
_CORE_TITLE = "VLLM::EngineCore_DP"
_started: set["Engine"] = set()


class EngineError(KvLeaseError, RuntimeError):
    """An engine died, did not get ready, or did not come to the awaited state. The message has its log's end."""


class Engine:
    """One engine's processes. `start` returns at once; `wait_ready` waits. As a context manager it ends in any case.

    After `kill` it can be started again: same name, same ports, another process (and, where the spec gives no
    engine id, another identity).
    """

    def __init__(self, spec: EngineSpec, log_directory: Path) -> None:
        self.spec = spec
        self.log_path = log_directory / f"{spec.name}.log"
        self.http_port = spec.http_port or free_port(HOST)
        # Each data-parallel rank listens at a port of its own, from the first one on.
        self.side_channel_port = spec.side_channel_port or free_port(HOST, spec.data_parallel_size)
        # Behind a socket there is no address; the name tells the engines of one client apart.
        self.url = f"http://{spec.name.lower()}" if spec.http_socket else f"http://{spec.host}:{self.http_port}"
        self.start_s: float | None = None
        """Seconds from start to ready, once known."""
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._started_at = 0.0
        self._log_mode = "wb"
        # No connection is kept: the server closes an idle one after 5 s, maybe just as it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        uds = str(spec.http_socket) if spec.http_socket else None
        transport = httpx.HTTPTransport(uds=uds, limits=limits, trust_env=False)
        self._http = httpx.Client(base_url=self.url, timeout=_HTTP_TIMEOUT_S, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Life

    def start(self) -> None:
        """Starts the processes, in a session of their own, and returns. Raises EngineError if it is started already."""
        if self._process is not None:
            raise EngineError(f"engine {self.spec.name} is running already (process {self._process.pid})")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.start_s = None
        self._scratch = Path(tempfile.mkdtemp(prefix="kvlease-"))
        self._started_at = time.monotonic()
        _started.add(self)
        with self.log_path.open(self._log_mode) as log, pinned(self.spec.cores):
            self._process = subprocess.Popen(
                command(self.spec, self.http_port),
                cwd=ROOT,
                env={**os.environ, **environment(self.spec, self.side_channel_port, self._scratch)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._log_mode = "ab"

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> Self:
        """Waits until the engine serves. Raises EngineError if it dies before, or is not ready within `timeout_s`."""
        self.wait_until(self.is_ready, "ready", timeout_s=timeout_s)
        self.start_s = time.monotonic() - self._started_at
        return self

    def is_ready(self) -> bool:
        """Tells whether the engine answers /health. Never raises for one that does not (yet)."""
        try:
            return self._http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def is_alive(self) -> bool:
        """Tells whether the API server's process lives (stopped counts as alive)."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> float:
        """Sends SIGKILL to all processes of the engine, as a crash; returns when none is left. Killing twice is fine.

        The result is the moment of the kill itself, by time.monotonic.
        """
        killed = time.monotonic()
        if self._process is not None:
            try:
                killed = end_group(self._process.pid)
            except TimeoutError as e:
                raise EngineError(f"engine {self.spec.name} could not be ended: {e}") from e
            self._process.wait()
        self._clean_up()
        return killed

    def close(self) -> None:
        """Kills the engine, if need be, and closes the client with which it was asked."""
        self.kill()
        self._http.close()

    def terminate(self, timeout_s: float = TERMINATED_WITHIN_S) -> bool:
        """Sends SIGTERM to the API server, as a supervisor does; whatever is left after `timeout_s` is killed.

        Returns whether nothing was left to kill.
        """
        if self._process is None:
            return True
        group = self._process.pid
        # Ended in this way, too, vLLM 0.32 leaves its processes' channels behind, with whatever connector.
        segments = shared_memory(group)
        self._process.terminate()
        deadline = time.monotonic() + timeout_s
        while group_members(group) and time.monotonic() < deadline:
            # Without this, the process itself would stay a zombie after its end.
            self._process.poll()
            time.sleep(POLL_S)
        ended = not group_members(group)
        self.kill()
        remove(segments)
        return ended

    def _clean_up(self) -> None:
        self._process = None
        _started.discard(self)
        if self.spec.http_socket is not None:
            self.spec.http_socket.unlink(missing_ok=True)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    # Faults

    def pause(self) -> None:
        """Sends SIGSTOP to every process of the engine, which is alive then, and does nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Sends SIGCONT to every process of the engine."""
        self._signal(signal.SIGCONT)

    def pause_worker(self) -> None:
        """Sends SIGSTOP to the workers only: the step that runs becomes a long one, and the scheduler lives on."""
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGSTOP)

    def resume_worker(self) -> None:
        """Sends SIGCONT to the workers."""
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGCONT)

    def worker_pids(self) -> list[int]:
        """The process ids of the workers, one per rank of either kind. Raises EngineError if there are others."""
        expected = self.spec.tensor_parallel_size * self.spec.data_parallel_size
        pids = [m.pid for m in group_members(self.process_group) if m.title.startswith(_WORKER_TITLE)]
        if len(pids) != expected:
            raise EngineError(f"engine {self.spec.name} has {len(pids)} worker processes instead of {expected}")
        return pids

    def kill_core(self, rank: int) -> None:
        """Sends SIGKILL to the scheduler's process of one data-parallel rank, as a crash. vLLM then ends the others
        too.

        Raises EngineError if there is none.
        """
        pids = [m.pid for m in group_members(self.process_group) if m.title.startswith(f"{_CORE_TITLE}{rank}")]
        if not pids:
            raise EngineError(f"engine {self.spec.name} has no core of data-parallel rank {rank}")
        os.kill(pids[0], signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not signal_group(self.process_group, number):
            raise EngineError(
                f"engine {self.spec.name} is gone: {number.name} reached nobody; {last_words(self.log_path)}"
            )

    @property
    def process_group(self) -> int:
        """The group of all of its processes, by the id of the first. Raises EngineError when it is not running."""
        if self._process is None:
            raise EngineError(f"engine {self.spec.name} is not running")
        return self._process.pid

    # What it says

    def metrics(self) -> Metrics:
        """Reads /metrics. Raises httpx.TransportError when nobody answers (in time)."""
        response = self._http.get("/metrics")
        response.raise_for_status()
        return Metrics.parse(response.text)

    def ask(self, payload: Mapping[str, Any]) -> int:
        """Sends a completion and returns the HTTP status. Raises httpx.TransportError when nobody answers (in time)."""
        return self._http.post("/v1/completions", json=dict(payload)).status_code

    def held_blocks(self, metrics: Metrics | None = None) -> int:
        """The number of KV cache blocks that are not free: in use by running requests, or held for a consumer."""
        # One block is vLLM's null block, which is neither free nor counted.
        return round((metrics or self.metrics()).value(CACHE_USAGE) * (self.spec.num_blocks - 1))

    def wait_for_metrics(self, condition: Callable[[Metrics], bool], what: str, timeout_s: float = 60.0) -> Metrics:
        """Waits until the metrics fulfil a condition, and returns those. `what` completes "it was not ..."."""
        latest: list[Metrics] = []

        def holds() -> bool:
            try:
                latest.append(self.metrics())
            except httpx.TransportError:
                return False
            return condition(latest[-1])

        self.wait_until(holds, what, timeout_s=timeout_s)
        return latest[-1]

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Waits until a condition holds. Raises EngineError if the engine dies before, or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            # Read before the question: it is too late only where the answer was still no after the time was up.
            asked_at = time.monotonic()
            if condition():
                return
            if not self.is_alive():
                code = self._process.returncode if self._process is not None else None
                raise EngineError(
                    f"engine {self.spec.name} died (exit {code}) before it was {what}; {last_words(self.log_path)}"
                )
            if asked_at > deadline:
                raise EngineError(
                    f"engine {self.spec.name} was not {what} within {timeout_s:g} s; {last_words(self.log_path)}"
                )
            time.sleep(POLL_S)


@contextmanager
def pinned(cores: tuple[int, ...]) -> Iterator[None]:
    """Lets what this thread starts run on these cores, until left: a child inherits its parent's affinity."""
    allowed = os.sched_getaffinity(0)
    if not cores:
        yield
        return
    if not set(cores) <= allowed:
        raise EngineError(f"cores {sorted(cores)} are not all available: this process may use {sorted(allowed)}")
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@atexit.register
def _end_what_was_left() -> None:
    for engine in list(_started):
        engine.kill()
