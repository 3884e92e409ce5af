"""An engine's life and faults, with a small HTTP server in vLLM's place."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kvlease.up.ports import free_port
from kvlease.up.processes import end_group, group_members
from proof.realengines import engine as engine_module
from proof.realengines.engine import Engine, EngineError
from proof.realengines.spec import HOST, EngineSpec
from tests.waiting import wait_until

SERVER = """
import http.server, os, sys
if os.fork() == 0:
    import time
    time.sleep(600)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""
ALONE = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
"""
MAPS = (
    """
import mmap
maps = []
for path in PATHS:
    with open(path, "w+b") as file:
        file.truncate(4096)
        maps.append(mmap.mmap(file.fileno(), 4096))
"""
    + SERVER
)
DIES = """
import sys
sys.exit("(EngineCore pid=7) ERROR 11-20 08:28:44 [core.py:1510] ValueError: the pool is too small")
"""


@pytest.fixture
def make_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Engine]]:
    made: list[Engine] = []

    def make(script: str) -> Engine:
        monkeypatch.setattr(
            engine_module, "command", lambda _, http_port: [sys.executable, "-c", script, str(http_port)]
        )
        spec = EngineSpec(name="fake", model=tmp_path, role="kv_producer", cores=(min(os.sched_getaffinity(0)),))
        made.append(Engine(spec, tmp_path))
        return made[-1]

    yield make
    for engine in made:
        engine.kill()


def states(engine: Engine) -> set[str]:
    return {member.state for member in group_members(engine.process_group)}


def test_an_engine_starts_pinned_in_a_session_of_its_own_and_leaves_nothing(
    make_engine: Callable[[str], Engine],
) -> None:
    allowed = os.sched_getaffinity(0)
    with make_engine(SERVER) as engine:
        engine.wait_ready(timeout_s=30)
        group = engine.process_group
        assert os.getsid(group) == group
        assert os.sched_getaffinity(group) == {min(allowed)}
        assert engine.start_s is not None
        wait_until(lambda: len(group_members(group)) == 2)
    assert group_members(group) == []
    assert os.sched_getaffinity(0) == allowed


def test_a_whole_engine_is_paused_and_resumed(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(SERVER) as engine:
        engine.wait_ready(timeout_s=30)
        wait_until(lambda: len(group_members(engine.process_group)) == 2)
        engine.pause()
        wait_until(lambda: states(engine) == {psutil.STATUS_STOPPED})
        engine.resume()
        wait_until(lambda: psutil.STATUS_STOPPED not in states(engine))
        assert engine.is_ready()


def test_a_killed_engine_can_be_started_again_on_its_ports(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(SERVER) as engine:
        first = engine.wait_ready(timeout_s=30).process_group
        engine.pause()
        engine.kill()
        assert not engine.is_alive()
        engine.start()
        assert engine.wait_ready(timeout_s=30).process_group != first


def test_an_engine_that_ends_by_itself_needs_no_kill(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(ALONE) as engine:
        group = engine.process_group
        assert engine.terminate(timeout_s=10)
        assert not engine.is_alive()
        assert group_members(group) == []
        assert engine.terminate()


def test_what_outlives_its_api_server_is_killed_and_told(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(SERVER) as engine:
        group = engine.wait_ready(timeout_s=30).process_group
        wait_until(lambda: len(group_members(group)) == 2)
        assert not engine.terminate(timeout_s=0.3)
        assert group_members(group) == []


def test_an_engine_that_dies_early_says_why(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(DIES) as engine, pytest.raises(EngineError, match="its log says: ValueError: the pool is too"):
        engine.wait_ready(timeout_s=30)


def test_what_never_comes_true_is_named_in_the_error(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(SERVER) as engine, pytest.raises(EngineError, match=r"was not busy within 0\.1 s"):
        engine.wait_until(lambda: False, "busy", timeout_s=0.1)


def test_an_engine_without_workers_says_so(make_engine: Callable[[str], Engine]) -> None:
    with make_engine(SERVER) as engine, pytest.raises(EngineError, match="0 worker processes instead of 1"):
        engine.pause_worker()


def test_cores_that_are_not_there_are_refused(tmp_path: Path) -> None:
    spec = EngineSpec(name="far", model=tmp_path, role="kv_producer", cores=(100_000,))
    with pytest.raises(EngineError, match="100000"):
        Engine(spec, tmp_path).start()


def test_a_group_is_ended_with_its_stopped_members() -> None:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.killpg(process.pid, signal.SIGSTOP)
    end_group(process.pid)
    assert process.wait() == -signal.SIGKILL


def test_ports_are_free_and_not_given_twice() -> None:
    ports = {free_port(HOST) for _ in range(20)}
    assert len(ports) == 20


def test_a_killed_engine_leaves_no_shared_memory(make_engine: Callable[[str], Engine]) -> None:
    """A killed engine leaves no memory of multiprocessing and of workers; UCX's stays, which others may have mapped."""
    own = [f"/dev/shm/{prefix}kvlease-test-{os.getpid()}" for prefix in ("psm_", "sem.mp-", "vllm_dist_")]
    shared = f"/dev/shm/ucx_shm_kvlease-test-{os.getpid()}"
    try:
        with make_engine(f"PATHS = {[*own, shared]}" + MAPS) as engine:
            engine.wait_ready(timeout_s=30)
            assert all(Path(path).exists() for path in own)
        assert not any(Path(path).exists() for path in own)
        assert Path(shared).exists()
    finally:
        for path in (*own, shared):
            Path(path).unlink(missing_ok=True)


def test_ports_in_a_row_are_nobody_elses() -> None:
    """A data-parallel engine listens at one port a rank, of which the second once was another engine's HTTP port."""
    first = free_port(HOST, 3)
    assert not {first, first + 1, first + 2} & {free_port(HOST) for _ in range(20)}
