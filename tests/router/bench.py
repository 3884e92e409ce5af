"""A bench for the router's data path: fake engines on loopback, the application in process, and clients that ask it."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvlease.router.app import RouterApp, open_app
from kvlease.router.engines import EngineReport, EngineRole
from kvlease.router.figures import RouterFigures
from kvlease.router.fleet import EngineFleet
from kvlease.router.operating import RouterState
from kvlease.testing.http_engines import FakeEngine, answer_to
from tests.router.settings import settings_of

PROMPT = "a prompt of some length, which is longer than a block of the cache is"
PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
MESSAGES = [{"role": "user", "content": PROMPT}]
TOKENS = 8


@dataclass
class Said:
    """All that a client was sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; "[DONE]" as text."""
        lines = [line for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]

    @property
    def text(self) -> str:
        """The text of the answer, of a stream or in one piece."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return _text_of_whole(self.json)
        return "".join(_text_of_event(event) for event in self.events if isinstance(event, dict))

    @property
    def is_done(self) -> bool:
        """True for a stream that has come to its proper end."""
        last = self.events[-1]
        return bool(last == "[DONE]" or last.get("type") == "response.completed")


class Client:
    """A client that asks the application as an ASGI server would on its behalf."""

    def __init__(self, app: Any, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.said = Said()
        self.takes = asyncio.Event()
        """Set while the client takes what it is sent."""
        self.takes.set()
        self.chunk = asyncio.Event()
        """Set at each chunk; for tests to wait for, and to clear."""
        self._left = asyncio.Event()
        self._body: bytes | None = body
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def leave(self) -> None:
        """Closes the client's connection."""
        self._left.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.takes.wait()
        if message["type"] == "http.response.start":
            self.said.status = message["status"]
            self.said.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            return
        assert not self.said.ended
        if message.get("body"):
            self.said.chunks.append(bytes(message["body"]))
            self.chunk.set()
        self.said.ended = not message.get("more_body", False)


@dataclass
class RouterBench:
    """A router, its engines and its figures."""

    app: RouterApp
    fleet: EngineFleet
    figures: RouterFigures
    state: RouterState
    producers: list[FakeEngine]
    consumers: list[FakeEngine]
    now: Callable[[], float]

    def client(
        self, api: str = "completions", *, stream: bool = True, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Client:
        """A client that has asked for an answer."""
        body = json.dumps(request_of(api, stream=stream) | more).encode()
        return Client(self.app, "POST", PATHS[api], body, {"content-type": "application/json", **(headers or {})})

    async def ask(self, api: str = "completions", **more: Any) -> Said:
        """What a client is answered."""
        client = self.client(api, **more)
        await client.task
        return client.said

    async def send(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Said:
        """What a client that sends this is answered."""
        client = Client(self.app, method, path, body, headers or {})
        await client.task
        return client.said

    async def settled(self) -> None:
        """Waits until nothing is under way any more at engines, and no release is."""
        await self.app.releases.drain(5.0)
        while any(engine.books.running for engine in (*self.producers, *self.consumers)):
            await asyncio.sleep(0)

    async def assert_books(self, *, prefills: int | None = None, read: int | None = None) -> None:
        """No prompt was prefilled twice, none was computed by a decode engine, and no lease was left to its term."""
        await self.settled()
        total = sum(engine.books.prefills.total for engine in self.producers)
        assert prefills is None or total == prefills
        assert sum(engine.books.prefills.repeated for engine in self.producers) == 0
        for engine in self.producers:
            leases = engine.books.leases
            leases.expire(float("inf"))
            assert len(leases) == 0
            assert leases.ended["stranded"] == 0, leases.ended
        assert read is None or sum(engine.books.leases.ended["read"] for engine in self.producers) == read

    def sent(self, engine: FakeEngine) -> list[dict[str, Any]]:
        """The bodies that an engine was sent."""
        return [json.loads(body) for _, _, body in engine.seen]


@contextlib.asynccontextmanager
async def router_bench(
    prefill: int = 1, decode: int = 2, *, leased: bool = True, seed: int = 1, **chosen: Any
) -> AsyncIterator[RouterBench]:
    """A router and its engines, which are known to be well. `chosen`: settings."""
    async with contextlib.AsyncExitStack() as stack:
        producers = [FakeEngine("prefill", name=f"P{number}", leased=leased) for number in range(1, prefill + 1)]
        consumers = [FakeEngine("decode", name=f"D{number}", leased=leased) for number in range(1, decode + 1)]
        for engine in (*producers, *consumers):
            await stack.enter_async_context(engine)
        fleet, figures, state = EngineFleet(), RouterFigures(), RouterState()
        loop = asyncio.get_running_loop()

        def now() -> float:
            return loop.time()

        for role, engines in ((EngineRole.PREFILL, producers), (EngineRole.DECODE, consumers)):
            for engine in engines:
                fleet.join(now(), engine.url, role)
                # The first of each role has the least to do, and is chosen.
                fleet.report(now(), engine.url, EngineReport(leased=leased, running=100 * engines.index(engine)))
        settings = settings_of(**chosen)
        chance = random.Random(seed)
        app = await stack.enter_async_context(open_app(fleet, settings, figures, state, now=now, chance=chance))
        yield RouterBench(app, fleet, figures, state, producers, consumers, now)


def leap(seconds: float) -> None:
    """Lets time pass for the event loop that runs, at once."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


async def until(met: Callable[[], object]) -> None:
    """Waits until something is so."""
    while not met():
        await asyncio.sleep(0)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test's scene."""
    asyncio.run(scene())


def request_of(api: str, *, stream: bool = True) -> dict[str, Any]:
    """A greedy request."""
    base = {"model": "fake-model", "temperature": 0, "stream": stream}
    if api == "completions":
        return base | {"prompt": PROMPT, "max_tokens": TOKENS}
    if api == "chat":
        return base | {"messages": MESSAGES, "max_tokens": TOKENS}
    return base | {"input": PROMPT, "max_output_tokens": TOKENS}


def right_answer(api: str) -> str:
    """The text that the greedy request has to be answered with."""
    return answer_to(f"<user>{PROMPT}\n<assistant>" if api == "chat" else PROMPT, TOKENS)


def _text_of_whole(answer: Any) -> str:
    if "output" in answer:
        return "".join(part["text"] for item in answer["output"] for part in item["content"])
    choice = answer["choices"][0]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def _text_of_event(event: dict[str, Any]) -> str:
    if "type" in event:
        return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""
    choices = event.get("choices", ())
    said = [choice["text"] if "text" in choice else choice["delta"].get("content") for choice in choices]
    return "".join(text or "" for text in said)
