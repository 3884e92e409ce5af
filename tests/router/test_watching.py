"""The watch over engines: what the fleet is told of each, and when."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from kvlease.router.engines import EngineReport, EngineRole, EngineView
from kvlease.router.figures import RouterFigures
from kvlease.router.fleet import EngineFleet
from kvlease.router.looks import LeaseWord, NoLook, look_at
from kvlease.router.operating import condition
from kvlease.router.watching import FleetWatch
from kvlease.testing.http_engines import FakeEngine
from tests.router.settings import settings_of


@dataclass
class Watched:
    """A watch, and what it has told."""

    watch: FleetWatch
    fleet: EngineFleet
    figures: RouterFigures
    http: aiohttp.ClientSession
    now: list[float]
    died: list[str] = field(default_factory=list)

    async def look(self, url: str) -> EngineView:
        """Looks once, and returns what the fleet makes of it."""
        await self.watch.look(self.watch.engines[url], self.http)
        (view,) = (view for view in self.fleet.snapshot(self.now[0]) if view.url == url)
        return view


@asynccontextmanager
async def watched(**chosen: Any) -> AsyncIterator[Watched]:
    """A watch that looks only when it is told to."""
    now, died = [100.0], list[str]()
    fleet, figures = EngineFleet(), RouterFigures()
    settings = settings_of(watch_timeout_s=5.0, **chosen)
    watch = FleetWatch(fleet, settings, figures, died.append, clock=lambda: now[0], chance=random.Random(1))
    async with aiohttp.ClientSession() as http:
        # Not entered: it begins no task of its own.
        yield Watched(watch, fleet, figures, http, now, died)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


def test_the_fleet_is_told_what_an_engine_says() -> None:
    async def scene() -> None:
        async with FakeEngine("decode") as engine, watched() as seen:
            seen.watch.follow({engine.url: "decode"})
            engine.books.running = 3
            view = await seen.look(engine.url)
            assert (condition(view), view.leased, view.role) == ("up", True, EngineRole.DECODE)
            assert view.report is not None
            assert view.report.running == 3
            engine.draining = True
            assert condition(await seen.look(engine.url)) == "draining"
            engine.draining = False
            assert condition(await seen.look(engine.url)) == "up"
            assert seen.figures.value("looks", "decode", "ok") == 3

    play(scene)


def test_an_engine_that_has_not_been_looked_at_counts_as_down() -> None:
    async def scene() -> None:
        async with watched() as seen:
            seen.watch.follow({"http://d0:1": "decode"})
            assert [condition(view) for view in seen.fleet.snapshot(0.0)] == ["down"]

    play(scene)


def test_an_engine_that_is_dead_is_told_after_two_looks_and_is_up_again_after_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with FakeEngine("decode") as engine, watched() as seen:
            seen.watch.follow({engine.url: "decode"})
            await seen.look(engine.url)
            await engine.close()
            seen.now[0] += 10.0
            assert (await seen.look(engine.url)).healthy
            assert seen.died == []
            assert not (await seen.look(engine.url)).healthy
            assert not (await seen.look(engine.url)).healthy
            assert seen.died == [engine.url]
            assert seen.watch.engines[engine.url].why == "connection refused"
            seen.now[0] += 10.0
            await engine.open(port=int(engine.url.rpartition(":")[2]))
            assert condition(await seen.look(engine.url)) == "up"
            assert seen.watch.engines[engine.url].why is None
            assert [record.getMessage() for record in caplog.records if record.name.endswith("watching")] == [
                f"decode engine {engine.url} is up, with kvlease",
                f"decode engine {engine.url} is away: connection refused",
                f"decode engine {engine.url} is up, with kvlease",
            ]

    play(scene)


def test_an_engine_that_is_not_healthy_is_away() -> None:
    async def scene() -> None:
        async with FakeEngine("prefill") as engine, watched() as seen:
            seen.watch.follow({engine.url: "prefill"})
            engine.healthy = False
            await seen.look(engine.url)
            assert not (await seen.look(engine.url)).healthy
            assert seen.watch.engines[engine.url].why == "its /health answers 503"
            assert seen.figures.value("looks", "prefill", "failed") == 2

    play(scene)


def test_an_engine_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene() -> None:
        async with FakeEngine("decode") as engine, watched() as seen:
            seen.watch.follow({engine.url: "decode"})
            for _ in range(10):
                engine.healthy = not engine.healthy
                await seen.look(engine.url)
                await seen.look(engine.url)
                seen.now[0] += 0.4
            said = [record.getMessage() for record in caplog.records if record.name.endswith("watching")]
            assert said == [f"decode engine {engine.url} is away: its /health answers 503"]
            # What could not be told is told once its time has come.
            assert engine.healthy
            seen.now[0] += 5.0
            await seen.look(engine.url)
            assert "is up" in caplog.records[-1].getMessage()

    play(scene)


async def answering(answer: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> tuple[asyncio.Server, str]:
    """A server that answers each connection so."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answers", "limit_s", "says"),
    [
        ([], 0.02, "no answer within 0.02 s"),
        (
            [b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\nContent-Length: 0\r\n\r\n"],
            5.0,
            "its /health answers 302",
        ),
        ([b"nonsense\r\n\r\n"], 5.0, ""),
        ([b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1_000_000] * 9], 5.0, "its answer has more than 8 MB"),
    ],
    ids=["hangs", "redirects", "is no HTTP", "sends without end"],
)
def test_whatever_answers_a_look_is_bounded(answers: list[bytes], limit_s: float, says: str) -> None:
    async def scene() -> None:
        async def answer(writer: asyncio.StreamWriter) -> None:
            if not answers:
                await asyncio.sleep(60)
            with suppress(ConnectionError):
                for part in answers:
                    writer.write(part)
                    await writer.drain()

        server, url = await answering(answer)
        async with server, aiohttp.ClientSession() as http:
            with pytest.raises(NoLook) as error:
                await look_at(http, url, limit_s, LeaseWord())
            assert says in str(error.value)

    play(scene)


def test_a_drain_is_undone_only_by_who_said_it() -> None:
    """The fleet notices drains by other signs, such as aborted requests; a page that does not tell must not undo it."""
    told: list[bool | None] = []

    class Fleet(EngineFleet):
        def report(self, now: float, url: str, report: EngineReport) -> bool:
            told.append(report.draining)
            return super().report(now, url, report)

    async def scene() -> None:
        async with FakeEngine("decode") as engine, watched() as seen:
            fleet = Fleet()
            watch = FleetWatch(fleet, settings_of(), seen.figures, seen.died.append)
            watch.follow({engine.url: "decode"})
            for draining in (False, True, True, False, False):
                engine.draining = draining
                await watch.look(watch.engines[engine.url], seen.http)

    play(scene)
    assert told == [None, True, True, False, None]


def test_an_engines_word_on_its_leases_is_told_at_once() -> None:
    async def scene() -> None:
        async with FakeEngine("prefill") as engine, watched() as seen:
            seen.watch.follow({engine.url: "prefill"})
            one = seen.watch.engines[engine.url]
            # Before the first look there is nothing to tell it with.
            seen.watch.heard(one, LeaseWord(draining=False, grace_s=0.0, served=True))
            assert (await seen.look(engine.url)).draining is False
            seen.watch.heard(one, LeaseWord(draining=True, grace_s=0.5, served=True))
            (view,) = seen.fleet.snapshot(seen.now[0])
            assert view.report is not None
            assert (view.draining, view.report.grace_s) == (True, 0.5)
            # One that shuts down says no more of its grace.
            seen.watch.heard(one, LeaseWord(draining=True, served=True))
            assert one.word.grace_s == 0.5
            assert (await seen.look(engine.url)).draining is True
            seen.watch.heard(one, LeaseWord(draining=False, grace_s=0.5, served=True))
            assert (await seen.look(engine.url)).draining is False

    play(scene)


def test_what_is_not_named_any_more_is_not_looked_at_and_takes_nothing_new() -> None:
    async def scene() -> None:
        async with FakeEngine("decode") as one, FakeEngine("decode") as other, watched() as seen:
            async with seen.watch:
                seen.watch.follow({one.url: "decode", other.url: "decode"})
                while len([view for view in seen.fleet.snapshot(0.0) if view.report]) < 2:
                    await asyncio.sleep(0.001)
                seen.fleet.begun(one.url)
                seen.watch.follow({other.url: "decode"})
                assert {view.url: condition(view) for view in seen.fleet.snapshot(0.0)} == {
                    one.url: "leaving",
                    other.url: "up",
                }
                assert list(seen.watch.engines) == [other.url]
                seen.fleet.ended(0.0, one.url, None, trial=False)
                assert [view.url for view in seen.fleet.snapshot(0.0)] == [other.url]
            assert asyncio.all_tasks() == {asyncio.current_task()}

    play(scene)


def test_one_that_hangs_holds_up_no_other() -> None:
    async def scene() -> None:
        async def hang(_writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        server, url = await answering(hang)
        async with server, FakeEngine("decode") as engine, watched() as seen, seen.watch:
            seen.watch.follow({url: "decode", engine.url: "decode"})
            while seen.watch.engines[engine.url].report is None:
                await asyncio.sleep(0.001)
            assert seen.watch.engines[url].report is None

    play(scene)
