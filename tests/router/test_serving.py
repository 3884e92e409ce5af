"""`kvlease router` as a process: it serves, drains, and leaves nothing behind."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from kvlease.cli import main
from kvlease.router import serving
from kvlease.testing.http_engines import FakeEngine, answer_to
from kvlease.testing.http_engines.call import Call
from tests.router.settings import settings_of

PROMPT = "one two three"
BODY = {"model": "fake-model", "prompt": PROMPT, "max_tokens": 3, "temperature": 0}


class GatedEngine(FakeEngine):
    """A decode engine that answers when the test lets it."""

    def __init__(self) -> None:
        super().__init__("decode")
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def _prefill(self, call: Call, **more: Any) -> bool:
        self.asked.set()
        await self.gate.wait()
        return await super()._prefill(call, **more)


@dataclass
class Served:
    """A router in a process of its own, between a client and two engines of this one."""

    pid: int
    url: str
    http: aiohttp.ClientSession
    decode: GatedEngine
    prefill: FakeEngine

    async def post(self) -> tuple[int, Any]:
        """A completion: the status, and the answer or the error."""
        async with self.http.post(f"{self.url}/v1/completions", json=BODY) as response:
            return response.status, await response.json()

    async def ready(self) -> int | None:
        """The status of /ready; None where nobody listens."""
        try:
            async with self.http.get(f"{self.url}/ready") as response:
                return response.status
        except aiohttp.ClientError:
            return None

    async def until_ready_is(self, status: int) -> None:
        while await self.ready() != status:
            await asyncio.sleep(0.002)

    def kill(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Its exit status."""
        while (found := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            await asyncio.sleep(0.002)
        return os.waitstatus_to_exitcode(found[1])


@pytest.fixture
def stage() -> Iterator[Callable[..., None]]:
    """Plays a scene with a router that has these arguments."""
    pids: list[int] = []

    def play(scene: Callable[[Served], Coroutine[Any, Any, None]], *arguments: str) -> None:
        with asyncio.Runner() as runner:
            runner.run(_play(scene, arguments, pids))

    yield play
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


async def _play(
    scene: Callable[[Served], Coroutine[Any, Any, None]], arguments: tuple[str, ...], pids: list[int]
) -> None:
    decode = GatedEngine()
    async with FakeEngine("prefill") as prefill, decode, aiohttp.ClientSession() as http:
        pid, url = _forked("--prefill", prefill.url, "--decode", decode.url, "--port", "0", *arguments)
        pids.append(pid)
        served = Served(pid, url, http, decode, prefill)
        await served.until_ready_is(200)
        await scene(served)


def _forked(*arguments: str) -> tuple[int, str]:
    """The command in a fork of this process, which has its modules already: its id, and its URL."""
    reads, writes = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reads)
        sys.stdout = os.fdopen(writes, "w")
        status = 99
        try:
            status = main(["router", *arguments])
        finally:
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads) as said:
        line = said.readline()
    assert line.startswith("kvlease router listens on http://127.0.0.1:"), line
    return pid, line.split()[-1]


def test_it_drains_what_runs_finishes_and_nothing_new_is_taken(stage: Callable[..., None]) -> None:
    async def scene(served: Served) -> None:
        running = asyncio.create_task(served.post())
        await served.decode.asked.wait()
        served.kill()
        await served.until_ready_is(503)
        status, refused = await served.post()
        assert (status, refused["error"]["type"]) == (503, "draining")
        served.decode.gate.set()
        status, answer = await running
        assert status == 200
        assert answer["choices"][0]["text"] == answer_to(PROMPT, 3)
        assert await served.ended() == 0

    stage(scene)


def test_what_runs_after_its_time_is_broken_off_and_its_engines_are_told(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It ends by itself, and not since the last time of all is up.
    monkeypatch.setattr(serving, "LAST_S", 600)

    async def scene(served: Served) -> None:
        running = asyncio.create_task(served.post())
        await served.decode.asked.wait()
        served.kill()
        assert await served.ended() == 1
        status, answer = await running
        assert (status, answer["error"]["type"]) == (503, "draining")
        while served.decode.books.running:
            await asyncio.sleep(0.002)

    stage(scene, "--drain-timeout", "0.01")


def test_a_second_signal_ends_it_at_once(stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "AT_ONCE_S", 600.0)

    async def scene(served: Served) -> None:
        running = asyncio.create_task(served.post())
        await served.decode.asked.wait()
        served.kill()
        await served.until_ready_is(503)
        served.kill(signal.SIGINT)
        assert await served.ended() == 130
        assert (await running)[0] == 503

    stage(scene)


def test_an_address_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["router", "--prefill", "p:1", "--decode", "d:1", "--port", str(port)]) == 3
    said = capsys.readouterr().out
    assert f"--host 127.0.0.1 --port {port} cannot be listened on: " in said
    assert "choose another --port" in said


@pytest.mark.parametrize(
    ("limits", "then", "warns"),
    [
        ((1024, 524_288), (524_288, 524_288), False),
        ((4096, 4096), None, False),
        ((1024, 2048), (2048, 2048), True),
        ((1024, resource.RLIM_INFINITY), (serving.ENOUGH_FILES, resource.RLIM_INFINITY), False),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ],
)
def test_it_takes_the_files_that_it_may_have(
    limits: tuple[int, int],
    then: tuple[int, int] | None,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: said.append(both))
    serving.raise_open_files(settings_of())
    assert said == ([] if then is None else [then])
    assert ("3328 may be needed" in caplog.text) == warns
