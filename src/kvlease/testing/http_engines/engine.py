"""The fake engine: what it does with each request, on a port of its own."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import msgspec

from kvlease.testing.http_engines import blocks
from kvlease.testing.http_engines.answers import AnswerForms
from kvlease.testing.http_engines.behaviour import Behaviour, Fault
from kvlease.testing.http_engines.blocks import BlockReader, EngineDied
from kvlease.testing.http_engines.books import Books, FakeLeases
from kvlease.testing.http_engines.call import PATHS, Call, CallRefused, body_of, read_call
from kvlease.testing.http_engines.connection import Exchange, ServerConnection
from kvlease.testing.http_engines.toy_model import MAX_MODEL_LEN, MODEL, Continuation, digest_of, text_of

_KEPT_REQUESTS = 1000
_KINDS = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 503: "ServiceUnavailableError"}
_SEEN_BY_NO_ENGINE = (429, 502, 504)
"""The statuses that something in front of an engine answers with."""


class FakeEngine:
    """A prefill or decode engine that any HTTP client can speak to."""

    def __init__(
        self,
        role: Literal["prefill", "decode"],
        *,
        name: str = "",
        leased: bool = True,
        term_s: float = 30.0,
        grace_s: float = 1.0,
        token_s: float = 0.0,
        prefill_s: float = 0.0,
        dies: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Reads what kind of engine it is; `open` starts it.

        `leased`: offers have a lease of kvlease's; without, they are stock vLLM's, and a consumer reads what they name
        even where it is another prompt's by then, so that the answer is wrong. `dies`: what the fault DIE does instead
        of `close`.
        """
        self.role = role
        self.name = name or role
        self.behaviour = Behaviour()
        """The way it treats the requests to come; may be set at any time."""
        self.healthy = True
        """True while `/health` answers 200."""
        self.draining = False
        """True while it aborts what is sent to it, and says that it drains."""
        self.seen: deque[tuple[str, dict[str, str], bytes]] = deque(maxlen=_KEPT_REQUESTS)
        """The path, headers and body of the last requests, for tests to look at."""
        leases = FakeLeases(secrets.randbits(63), term_s=term_s, grace_s=grace_s, leased=leased)
        self.books = Books(leases)
        self._token_s, self._prefill_s = token_s, prefill_s
        self._dies = dies or self.close
        self._reader = BlockReader()
        self._server: asyncio.Server | None = None
        self._connections: set[ServerConnection] = set()
        self._address = ("", 0)
        self._routes: dict[str, Callable[[Exchange], None]] = {
            "/health": self._health,
            "/ping": self._health,
            "/v1/models": self._models,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
            "/metrics": self._metrics,
            "/behaviour": self._behave,
            "/books": self._show_books,
            blocks.PATH: self._lease,
        }

    @property
    def url(self) -> str:
        """The address to speak to, once it is open."""
        return "http://{}:{}".format(*self._address)

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens, on a free port where none is given, and returns the URL."""
        loop = asyncio.get_running_loop()

        def connection() -> ServerConnection:
            return ServerConnection(self._handle, self._connections.add, self._closed)

        self._server = await loop.create_server(connection, host, port, backlog=2048)
        self._address = self._server.sockets[0].getsockname()[:2]
        return self.url

    async def close(self) -> None:
        """Ends it as a death does: nobody listens, every connection is cut, and producers hear of it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.cut()
        self._reader.close()
        # The event loop tells each connection of its end in its next turn.
        await asyncio.sleep(0)

    async def __aenter__(self) -> "FakeEngine":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _closed(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self.books.leases.gone(_now(), connection)

    async def _handle(self, exchange: Exchange) -> None:
        api = PATHS.get(exchange.path)
        route = self._routes.get(exchange.path)
        if api is not None and exchange.method == "POST":
            self.seen.append((exchange.path, exchange.headers, exchange.body))
            await self._generate(api, exchange)
        elif route is not None:
            try:
                route(exchange)
            except (CallRefused, msgspec.MsgspecError) as error:
                exchange.answer(400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}})
        elif exchange.path.startswith("/v1/kvlease/leases/") and exchange.path.endswith("/release"):
            released = self.books.leases.end(exchange.path.split("/")[4], "released")
            exchange.answer(200 if released else 404, {"released": released})
        else:
            exchange.answer(404, {"detail": "Not Found"})

    async def _generate(self, api: str, exchange: Exchange) -> None:
        behaviour = self._next_behaviour()
        if behaviour.fault is Fault.CUT:
            exchange.cut()
            return
        if behaviour.fault is Fault.STATUS and behaviour.status in (502, 504):
            exchange.answer(behaviour.status, b"Bad Gateway", "text/plain")
            return
        self.books.enter()
        how = "cancelled"
        try:
            how = await self._admit(api, exchange, behaviour)
        except EngineDied:
            how = "broken"
            await self._dies()
        finally:
            self.books.leave(how)

    def _next_behaviour(self) -> Behaviour:
        behaviour = self.behaviour
        if behaviour.times is not None:
            self.behaviour = Behaviour() if behaviour.times <= 1 else _once_less(behaviour)
        if self.draining and behaviour.fault is Fault.OK:
            return Behaviour(Fault.ABORT)
        return behaviour

    async def _admit(self, api: str, exchange: Exchange, behaviour: Behaviour) -> str:
        """Answers a request, and returns how it ended."""
        body: dict[str, Any] = {}
        try:
            body = body_of(exchange.body)
            if behaviour.fault is Fault.STATUS:
                raise CallRefused(
                    behaviour.status, _KINDS.get(behaviour.status, "InternalServerError"), "as it was told"
                )
            call = read_call(api, body)
        except CallRefused as refusal:
            await self._clean_up(body.get("kv_transfer_params"), refusal.status)
            after = behaviour.retry_after_s
            more = {} if after is None else {"retry-after": str(after)}
            exchange.answer(refusal.status, {"error": refusal.error}, **more)
            return "refused"
        if behaviour.fault is Fault.GARBLED:
            exchange.answer(200, b"<html>no answer</html>", "text/html")
            return "broken"
        return await self._answer(call, exchange, behaviour)

    async def _clean_up(self, params: Any, status: int) -> None:
        """Does what vLLM does with the reference of a request that it refuses before it is admitted."""
        if not isinstance(params, dict) or not params.get("do_remote_prefill") or status in _SEEN_BY_NO_ENGINE:
            return
        kept = params.get("kv_lease_on_reject") == "return" and "kv_lease" in params
        await self._reader.let_go(params, "return" if kept else "release")

    async def _answer(self, call: Call, exchange: Exchange, behaviour: Behaviour) -> str:
        answers = AnswerForms(call, exchange.headers.get("x-request-id") or secrets.token_hex(8))
        if call.stream:
            # As vLLM: the status is on its way before anything is computed.
            exchange.begin()
            for event in answers.opening():
                await exchange.send(event)
        if behaviour.fault is Fault.ABORT:
            if not call.stream:
                exchange.answer(200, answers.whole([[] for _ in call.prompts * call.n], "abort"))
                return "aborted"
            await _stream_rest(exchange, answers.aborted())
            return "aborted"
        if behaviour.fault is Fault.HANG and behaviour.after_chunks == 0:
            await asyncio.Event().wait()
        right = await self._prefill(call, dying=behaviour.fault is Fault.DIE and behaviour.after_chunks == 0)
        await asyncio.sleep(behaviour.delay_s)
        making = [Continuation(prompt, wrong=not right) for prompt in call.prompts for _ in range(call.n)]
        token_s = self._token_s if behaviour.token_s is None else behaviour.token_s
        if call.stream:
            return await self._stream(call, exchange, answers, behaviour, making, token_s)
        await asyncio.sleep(token_s * call.tokens)
        if behaviour.fault in (Fault.DIE, Fault.CUT_STREAM):
            return _break(exchange, behaviour.fault)
        if behaviour.fault is Fault.HANG:
            await asyncio.Event().wait()
        if behaviour.fault is Fault.ERROR_EVENT:
            error = {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}
            exchange.answer(500, {"error": error})
            return "broken"
        outputs = [[each.next() for _ in range(call.tokens)] for each in making]
        exchange.answer(200, answers.whole(outputs, call.finish_reason, self._offer(call)))
        return "answered"

    async def _prefill(self, call: Call, *, dying: bool) -> bool:
        """Reads the prompt's blocks, or computes them. Returns False where what it read is another prompt's by now."""
        params = call.params or {}
        if params.get("do_remote_prefill"):
            how = await self._reader.take(params, digest_of(call.prompts[0]), dying=dying)
            self.books.reads[how] += 1
            if how != "recomputed":
                return how == "read"
        if dying:
            raise EngineDied
        await asyncio.sleep(self._prefill_s)
        for prompt in call.prompts:
            self.books.prefills.add(digest_of(prompt), len(prompt))
        return True

    def _offer(self, call: Call) -> dict[str, Any] | None:
        """Returns a producer's `kv_transfer_params`, where the request asks for them."""
        if not (call.params or {}).get("do_remote_decode") or len(call.prompts) != 1:
            return None
        held = self.books.leases.grant(_now(), digest_of(call.prompts[0]), len(call.prompts[0]))
        host, port = self._address
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": self.name,
            "remote_host": host,
            "remote_port": port,
            "tp_size": 1,
        } | held

    async def _stream(
        self,
        call: Call,
        exchange: Exchange,
        answers: AnswerForms,
        behaviour: Behaviour,
        making: list[Continuation],
        token_s: float,
    ) -> str:
        outputs: list[list[int]] = [[] for _ in making]
        ends_at = None if behaviour.fault in (Fault.OK, Fault.SLOW) else behaviour.after_chunks
        sent = 0
        for number in range(1, call.tokens + 1):
            for index, continuation in enumerate(making):
                if sent == ends_at:
                    return await _end_early(exchange, answers, behaviour.fault)
                outputs[index].append(continuation.next())
                reason = call.finish_reason if number == call.tokens else None
                before = answers.beginning() if sent == 0 else []
                event = answers.token(index, number, outputs[index][-1], reason)
                await exchange.send(b"".join([*before, event]))
                sent += 1
            if token_s and number < call.tokens:
                await asyncio.sleep(token_s)
        await _stream_rest(exchange, answers.ending(outputs, call.finish_reason))
        return "answered"

    def _health(self, exchange: Exchange) -> None:
        exchange.answer(200 if self.healthy else 503, b"")

    def _models(self, exchange: Exchange) -> None:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "vllm", "root": MODEL, "parent": None}
        exchange.answer(200, {"object": "list", "data": [model | {"max_model_len": MAX_MODEL_LEN, "permission": []}]})

    def _tokenize(self, exchange: Exchange) -> None:
        body = body_of(exchange.body)
        ids = list(read_call("chat" if "messages" in body else "completions", body).prompts[0])
        exchange.answer(200, {"count": len(ids), "max_model_len": MAX_MODEL_LEN, "tokens": ids, "token_strs": None})

    def _detokenize(self, exchange: Exchange) -> None:
        exchange.answer(200, {"prompt": text_of(body_of(exchange.body).get("tokens", []))})

    def _metrics(self, exchange: Exchange) -> None:
        labels = f'{{engine="0",model_name="{MODEL}"}}'
        leases = self.books.leases
        leases.expire(_now())
        figures = {
            "vllm:num_requests_running": self.books.running,
            "vllm:num_requests_waiting": 0,
            "vllm:kv_cache_usage_perc": min(1.0, (self.books.running + len(leases)) / 1000),
            "kvlease:agent_up": 1,
            "kvlease:active_leases": len(leases),
            "kvlease:draining": int(self.draining),
        }
        lines = [f"# TYPE {name} gauge\n{name}{labels} {value}\n" for name, value in figures.items()]
        exchange.answer(200, "".join(lines).encode(), "text/plain; version=0.0.4")

    def _behave(self, exchange: Exchange) -> None:
        self.behaviour = msgspec.json.decode(exchange.body, type=Behaviour)
        exchange.answer(200, self.behaviour)

    def _show_books(self, exchange: Exchange) -> None:
        exchange.answer(200, self.books.shown(_now()))

    def _lease(self, exchange: Exchange) -> None:
        """Answers a consumer."""
        asked, leases = body_of(exchange.body), self.books.leases
        name = str(asked["lease"])
        if asked["do"] == "claim":
            done = leases.claim(_now(), name, asked["digest"], exchange.connection)
        elif asked["do"] == "return":
            done = leases.give_back(_now(), name)
        else:
            done = leases.end(name, "read" if asked["do"] == "read" else "released")
        exchange.answer(200, {"done": done})


def _now() -> float:
    return asyncio.get_running_loop().time()


def _once_less(behaviour: Behaviour) -> Behaviour:
    return msgspec.structs.replace(behaviour, times=(behaviour.times or 0) - 1)


def _break(exchange: Exchange, fault: Fault) -> str:
    if fault is Fault.DIE:
        raise EngineDied
    exchange.cut()
    return "broken"


async def _end_early(exchange: Exchange, answers: AnswerForms, fault: Fault) -> str:
    """Does to a stream what its fault is."""
    if fault is Fault.HANG:
        await asyncio.Event().wait()
    if fault is Fault.ERROR_EVENT:
        await _stream_rest(exchange, answers.broken("Internal server error"))
        return "broken"
    return _break(exchange, fault)


async def _stream_rest(exchange: Exchange, events: list[bytes]) -> None:
    for event in events:
        await exchange.send(event)
    exchange.end()


@contextlib.asynccontextmanager
async def fake_engines(
    prefill: int = 1, decode: int = 2, **options: Any
) -> AsyncIterator[tuple[list[FakeEngine], list[FakeEngine]]]:
    """Opens some engines of both roles, and closes them in the end."""
    producers = [FakeEngine("prefill", name=f"P{number}", **options) for number in range(1, prefill + 1)]
    consumers = [FakeEngine("decode", name=f"D{number}", **options) for number in range(1, decode + 1)]
    async with contextlib.AsyncExitStack() as stack:
        for engine in [*producers, *consumers]:
            await stack.enter_async_context(engine)
        yield producers, consumers
