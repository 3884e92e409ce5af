"""Headers, bodies and refusals between clients and engines, and how much the router holds."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from kvlease.router.passing import for_client, for_engines
from kvlease.routing.engines import EngineReport, EngineRole
from kvlease.testing.http_engines import Behaviour, FakeEngine
from kvlease.testing.http_engines.behaviour import Fault
from tests.router.bench import (
    PATHS,
    PROMPT,
    Client,
    RouterBench,
    leap,
    play,
    request_of,
    right_answer,
    router_bench,
    until,
)

SENT = {
    "Authorization": "Bearer a-clients-own-key",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=b",
    "X-Request-Id": "client-1",
    "X-data-parallel-rank": "1",
    "x-session-id": "s",
    "x-unknown": "kept",
    "Connection": "keep-alive, X-Hop",
    "X-Hop": "dropped",
    "TE": "trailers",
    "Host": "router",
    "Accept-Encoding": "gzip",
}


def test_headers_reach_both_engines_and_the_release() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            bench.consumers[0].behaviour = Behaviour(Fault.STATUS, status=400, times=1)
            said = await bench.ask(headers=SENT)
            assert said.status == 400
            assert said.headers["x-request-id"] == "client-1"
            await bench.assert_books(prefills=1)
            seen = [headers for engine in (bench.producers[0], *bench.consumers) for _, headers, _ in engine.seen]
            assert len(seen) == 3
            for headers in seen:
                for name in ("Authorization", "traceparent", "tracestate", "X-Request-Id", "X-data-parallel-rank"):
                    assert headers[name.lower()] == SENT[name]
                assert (headers["x-session-id"], headers["x-unknown"]) == ("s", "kept")
                assert "x-hop" not in headers
                assert "te" not in headers
                assert headers["accept-encoding"] == "identity"
                assert headers["host"] != "router"

    play(scene)


def test_a_request_without_id_gets_one_that_all_share() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            said = await bench.ask()
            ids = {
                headers["x-request-id"]
                for engine in (*bench.producers, *bench.consumers)
                for _, headers, _ in engine.seen
            }
            assert ids == {said.headers["x-request-id"]}

    play(scene)


def test_which_key_engines_get() -> None:
    client = [(b"authorization", b"Bearer client"), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"\xff")]
    assert for_engines(client, None, drops_key=False)["authorization"] == "Bearer client"
    assert for_engines(client, "engine", drops_key=True)["authorization"] == "Bearer engine"
    headers = for_engines(client, None, drops_key=True)
    assert "authorization" not in headers
    assert headers["x-a"] == "1, 2"


def test_an_engines_headers_pass_but_for_those_of_its_connection() -> None:
    engine = [(b"Content-Type", b"x"), (b"Transfer-Encoding", b"chunked"), (b"Content-Encoding", b"br"), (b"A", b"1")]
    assert for_client(engine, "id", 3) == [
        (b"content-type", b"x"),
        (b"content-encoding", b"br"),
        (b"a", b"1"),
        (b"x-request-id", b"id"),
        (b"content-length", b"3"),
    ]


def test_what_carries_no_kv_cache_goes_to_a_decode_engine() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            assert (await bench.send("GET", "/v1/models")).json["data"][0]["id"] == "fake-model"
            body = json.dumps({"prompt": PROMPT, "kv_transfer_params": {}}).encode()
            assert (await bench.send("POST", "/tokenize", body)).json["count"] == len(PROMPT)
            assert (await bench.send("POST", "/detokenize", b'{"tokens":[97]}')).json == {"prompt": "a"}
            # Another one is asked where the first is gone.
            await bench.consumers[0].close()
            assert (await bench.send("GET", "/v1/models")).status == 200
            assert not bench.producers[0].seen

    play(scene)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/v1/completions", b"", 405, "method_not_allowed"),
        ("POST", "/v1/models", b"", 405, "method_not_allowed"),
        ("POST", "/sleep", b"", 404, "not_found"),
        ("GET", "/v1/models/../kvlease/leases", b"", 404, "not_found"),
        ("POST", "/v1/kvlease/leases/12345678/release", b"", 404, "not_found"),
        ("POST", "/inference/v1/generate", b"{}", 404, "not_found"),
        ("POST", "/v1/completions", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/chat/completions", b'{"a":"' + b"x" * 3000 + b'"}', 413, "body_too_long"),
        ("POST", "/tokenize", b"[]", 400, "invalid_request_error"),
    ],
)
def test_what_the_router_refuses_itself(method: str, path: str, body: bytes, status: int, kind: str) -> None:
    async def scene() -> None:
        async with router_bench(max_body_bytes=2000) as bench:
            said = await bench.send(method, path, body)
            assert said.status == status
            assert said.json["error"]["type"] == kind
            assert said.json["error"]["code"] == status
            assert bench.state.in_flight() == 0

    play(scene)


def test_a_router_with_keys_and_one_that_ends() -> None:
    async def scene() -> None:
        key = "0123456789abcdef"
        async with router_bench(api_keys=frozenset({key})) as bench:
            assert (await bench.ask()).status == 401
            said = await bench.ask(headers={"Authorization": f"Bearer {key}"})
            assert said.text == right_answer("completions")
            assert "authorization" not in bench.producers[0].seen[0][1]
            bench.state.draining = True
            said = await bench.ask(headers={"Authorization": f"Bearer {key}"})
            assert (said.status, said.json["error"]["type"]) == (503, "draining")
            assert said.headers["retry-after"] == "1"
            for reason in ("unauthorized", "draining"):
                assert bench.figures.value("refused", reason) == 1

    play(scene)


def test_more_requests_than_may_run_wait_and_then_are_refused() -> None:
    async def scene() -> None:
        async with router_bench(max_in_flight=1, max_queued=2, queue_timeout_s=10.0) as bench:
            bench.producers[0].behaviour = Behaviour(Fault.HANG, times=1)
            first = bench.client()
            await until(lambda: bench.state.in_flight() == 1)
            second, third = bench.client(), bench.client()
            await until(lambda: bench.state.queued() == 2)
            full = await bench.ask()
            assert (full.status, full.json["error"]["type"]) == (429, "rate_limit_exceeded")
            assert int(full.headers["retry-after"]) >= 1
            leap(10.0)
            await asyncio.gather(second.task, third.task)
            assert (second.said.status, third.said.status) == (429, 429)
            fourth = bench.client()
            await until(lambda: bench.state.queued() == 1)
            first.leave()
            await fourth.task
            assert fourth.said.text == right_answer("completions")
            assert bench.state.in_flight() == bench.state.queued() == 0
            assert bench.figures.value("refused", "queue_time") == 2

    play(scene)


def test_without_engines_it_says_so() -> None:
    async def scene() -> None:
        async with router_bench(decode=0, prefill=0) as bench:
            said = await bench.ask()
            assert (said.status, said.json["error"]["type"]) == (503, "no_engine")

    play(scene)


class Flood:
    """A decode engine that sends as fast as it can: events of a hundred kilobytes."""

    EVENTS = 120

    def __init__(self) -> None:
        self.sent = 0
        self.blocked = False
        self.url = ""
        self._event = b'data: {"choices":[{"text":"' + b"x" * 100_000 + b'"}]}\n\n'

    async def __aenter__(self) -> "Flood":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname()[:2])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while self.sent < self.EVENTS:
                self.sent += 1
                await self._send(writer, self._event)
            await self._send(writer, b"data: [DONE]\n\n")
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter, event: bytes) -> None:
        writer.write(event)
        self.blocked = True
        try:
            await writer.drain()
        finally:
            self.blocked = False


@contextlib.asynccontextmanager
async def flooded() -> AsyncIterator[tuple[RouterBench, Flood, Client]]:
    """A client that takes nothing after its first chunk, and an engine that cannot send any more to it."""
    async with router_bench(decode=0) as bench, Flood() as flood:
        bench.fleet.join(bench.now(), flood.url, EngineRole.DECODE, leased=True)
        client = bench.client()
        await client.chunk.wait()
        client.takes.clear()
        seen = (0, 0)
        # All buffers are full when nothing has moved for many turns.
        while not flood.blocked or seen[0] < flood.sent or seen[1] < 100:
            seen = (flood.sent, seen[1] + 1 if seen[0] == flood.sent else 0)
            await asyncio.sleep(0)
        yield bench, flood, client


def test_a_slow_client_holds_back_its_engine_and_nobody_else() -> None:
    async def scene() -> None:
        async with flooded() as (bench, flood, slow), FakeEngine("decode") as other:
            assert flood.sent < flood.EVENTS
            # Others are answered meanwhile.
            bench.fleet.join(bench.now(), other.url, EngineRole.DECODE, leased=True)
            bench.fleet.report(bench.now(), flood.url, EngineReport(running=100))
            assert (await bench.ask("chat")).text == right_answer("chat")
            assert flood.sent < flood.EVENTS
            slow.takes.set()
            await slow.task
            assert slow.said.is_done
            assert len(slow.said.body) > flood.EVENTS * 100_000

    play(scene)


def test_a_client_that_takes_nothing_for_long_is_taken_for_gone() -> None:
    async def scene() -> None:
        async with flooded() as (bench, flood, slow):
            # Silence of an engine is no reason, while the client is waited for.
            leap(200.0)
            await asyncio.sleep(0)
            assert not slow.task.done()
            leap(101.0)
            await slow.task
            await until(lambda: not flood.blocked)
            assert flood.sent < flood.EVENTS
            assert bench.figures.value("requests", "completions", "client_gone") == 1
            assert bench.state.in_flight() == 0

    play(scene)


def test_a_long_prompt_passes() -> None:
    async def scene() -> None:
        async with router_bench() as bench:
            for api in PATHS:
                body = request_of(api) | {"a_field": "x" * 2_000_000}
                said = await bench.send("POST", PATHS[api], json.dumps(body).encode())
                assert said.text == right_answer(api)

    play(scene)
