"""Bodies of requests: those that are here have bounds together, and one that stops coming ends."""

import asyncio
from typing import Any

import pytest

from kvlease.router import app
from kvlease.router.clients import BODY_SILENCE_S
from kvlease.testing.http_engines import Behaviour
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import Client, leap, play, router_bench, until


def test_the_bodies_that_are_here_have_a_bound_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LONGEST_BODIES", 1)

    async def scene() -> None:
        async with router_bench(max_body_bytes=4000) as bench:
            bench.producers[0].behaviour = Behaviour(Fault.HANG, times=1)
            first = bench.client(prompt="x" * 3000)
            await until(lambda: bench.producers[0].seen)
            said = await bench.ask(prompt="y" * 3000)
            assert (said.status, said.headers["retry-after"], said.headers["connection"]) == (429, "1", "close")
            assert said.json["error"]["type"] == "rate_limit_exceeded"
            assert bench.figures.value("refused", "no_room") == 1
            # A short one has room still.
            assert (await bench.ask()).status == 200
            first.leave()
            await first.task
            assert (await bench.ask(prompt="y" * 3000)).status == 200

    play(scene)


@pytest.mark.parametrize("parts", [0, 3])
def test_a_body_that_stops_coming_ends(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = list(range(parts))

    async def receive(_: Client) -> dict[str, Any]:
        if left:
            left.pop()
            return {"type": "http.request", "body": b'{"a":', "more_body": True}
        asyncio.get_running_loop().call_soon(leap, BODY_SILENCE_S + 1)
        await asyncio.Event().wait()
        raise AssertionError

    async def scene() -> None:
        async with router_bench() as bench:
            monkeypatch.setattr(Client, "_receive", receive)
            said = await bench.ask()
            assert (said.status, said.headers["connection"]) == (408, "close")
            assert said.json["error"]["type"] == "late_body"
            assert bench.figures.value("refused", "late_body") == 1
            assert bench.figures.value("requests", "completions", "refused") == 1

    play(scene)
