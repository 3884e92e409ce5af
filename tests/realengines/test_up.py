"""`kvlease up` with real engines: it serves, starts again what dies, and leaves nothing when it is killed itself."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kvlease.metrics.scraped import Metrics
from kvlease.up.ports import free_port
from kvlease.up.processes import group_members, mapped
from tests.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
SERVED_WITHIN_S = 150.0
POLL_S = 0.1
SHARED_MEMORY = "/dev/shm/"


class Up:
    """The command, run for a test."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.port = logs, free_port(HOST)
        self.url = f"http://{HOST}:{self.port}"
        self._out = (logs / "up.out").open("w+")
        command = [sys.executable, "-m", "kvlease.cli", "up", "--port", str(self.port), "--logs", str(logs)]
        self.process = subprocess.Popen(command, stdout=self._out, stderr=subprocess.STDOUT, cwd=ROOT)

    def said(self) -> str:
        return (self.logs / "up.out").read_text()

    def wait_serving(self, times: int) -> None:
        """Waits until decode-0 has been started that many times, and the router takes requests."""
        deadline = time.monotonic() + SERVED_WITHIN_S
        while self.said().count("decode-0 starts;") < times or not self.is_ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def groups(self) -> dict[str, int]:
        """The groups of its children, by the end of the command of each first process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {_role(Path(f"/proc/{pid}/cmdline").read_text()): int(pid) for pid in children}

    def answer(self) -> str:
        """The answer to a completion, by the API's own words."""
        body = {"model": "tiny", "prompt": "It was a dark night. " * 8, "max_tokens": 24, "temperature": 0}
        response = httpx.post(f"{self.url}/v1/completions", json=body, timeout=60.0, trust_env=False)
        assert response.status_code == httpx.codes.OK, response.text
        text: str = response.json()["choices"][0]["text"]
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()


def _role(command: str) -> str:
    for word, role in (
        ("kv_producer", "prefill"),
        ("kv_consumer", "decode"),
        ("router", "router"),
        ("reaper", "reaper"),
    ):
        if word in command:
            return role
    return "other"


def granted(producer: int) -> float:
    """The leases that P has granted, as its own listener tells."""
    command = Path(f"/proc/{producer}/cmdline").read_text()
    listener = re.findall(r'"kv_lease_listen": "([^"]+)"', command)[0]
    page = httpx.get(f"http://{listener}/metrics", trust_env=False).text
    return Metrics.parse(page, ("kvlease:grants",)).value("kvlease:grants_total")


def temporary_files(pid: int) -> Path | None:
    """The directory of a process for its temporary files, if it was given one."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next((Path(each.removeprefix("TMPDIR=")) for each in variables if each.startswith("TMPDIR=")), None)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.close()


def test_it_serves_starts_again_what_dies_and_leaves_nothing(up: Up) -> None:
    up.wait_serving(times=1)
    answer = up.answer()
    groups = up.groups()
    assert set(groups) == {"prefill", "decode", "router", "reaper"}

    os.killpg(groups["decode"], signal.SIGKILL)
    up.wait_serving(times=2)
    assert up.answer() == answer
    after = up.groups()
    assert after["decode"] != groups["decode"]
    assert {name: group for name, group in after.items() if name != "decode"} == {
        name: group for name, group in groups.items() if name != "decode"
    }, "only the one that died was started again"
    assert "decode-0 has ended (killed by SIGKILL) and starts again in 1 s" in up.said()
    assert granted(after["prefill"]) == 2

    every = set(groups.values()) | set(after.values())
    members = [member.pid for group in every for member in group_members(group)]
    segments = {path for pid in members for path in mapped(pid) if path.startswith(SHARED_MEMORY)}
    assert segments
    scratch = {path for pid in members if (path := temporary_files(pid))}
    assert len(scratch) == 2
    assert all(path.exists() for path in scratch)
    up.process.kill()
    wait_until(lambda: not any(group_members(group) for group in every))
    wait_until(lambda: not any(Path(path).exists() for path in segments | scratch))
