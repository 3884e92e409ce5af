"""Calls to engines over HTTP: raw bytes both ways, and each way in which a call can fail as an `EngineFailure`.

It needs the package aiohttp.
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from kvlease.routing.failures import EngineFailure, of_answer

KEEP_ALIVE_S = 4.0
"""The longest time for which an unused connection is kept: vLLM closes its own after 5 s, and a request that meets the
end of its connection is lost."""
NAMES_KEPT_S = 10
"""The time for which a name's address is kept."""
MOST_ANSWER_BYTES = 256_000_000
"""The longest answer in one piece."""
AFTER_HANG_UP_S = 1.0
"""The longest wait for what an engine had sent already when its client left."""
_CONNECT_STEPS = 10
"""The steps in which the time of a connection passes."""
_AT_ONCE_BYTES = 1 << 20
"""The longest body that aiohttp writes in one go without a warning."""
_LEFT_OUT = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

RawHeaders = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class EngineAnswer:
    """An engine's whole answer."""

    status: int
    headers: RawHeaders
    body: bytes


class EngineCallFailed(Exception):
    """A call that has failed, with the engine's own answer where it gave one."""

    def __init__(self, failure: EngineFailure, answer: EngineAnswer | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.answer = answer


class EngineConnections:
    """The connections to all engines, kept for reuse. They know no cookies and no redirects, and unpack nothing."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None
        self._calls: dict[str, set[EngineCall]] = {}

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def call(self, engine: str) -> "EngineCall":
        """Returns a call to an engine, which is to be closed."""
        return EngineCall(self, engine)

    def end_calls(self, engine: str) -> None:
        """Ends the calls to an engine that have had no token yet, as `CUT`: it was found dead."""
        for call in list(self._calls.get(engine, ())):
            call.cut_short()

    def note(self, call: "EngineCall") -> None:
        """Notes a call that has had no token yet."""
        self._calls.setdefault(call.engine, set()).add(call)

    def forget(self, call: "EngineCall") -> None:
        """Forgets a call; a no-op for one that is not noted."""
        calls = self._calls.get(call.engine)
        if calls is not None:
            calls.discard(call)
            if not calls:
                del self._calls[call.engine]

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, which begins with the first call: it belongs to the event loop that runs then."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_NotedConnector(
                    self._connect_s, limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=NAMES_KEPT_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=_LEFT_OUT,
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session


_calling: ContextVar["EngineCall | None"] = ContextVar("kvlease_calling", default=None)


class _NotedConnector(aiohttp.TCPConnector):
    """Tells a call its connection before the answer begins: it is needed to hang up while the engine computes."""

    def __init__(self, connect_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._connect_s = connect_s

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        async with _ConnectLimit(self._connect_s):
            connection = await super().connect(*args, **kwargs)
        call = _calling.get()
        if call is not None:
            call.connected(connection)
        return connection


class _ConnectLimit:
    """The time that a connection may take. It raises TimeoutError.

    Time for which this process stood still does not count: its own lateness is no sign of an engine's death, and a
    router that is late with everything would take all engines for dead at once.
    """

    def __init__(self, limit_s: float) -> None:
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._step_s = limit_s / _CONNECT_STEPS
        self._left = _CONNECT_STEPS
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._timer = self._loop.call_later(self._step_s, self._step)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        assert self._timer is not None
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _step(self) -> None:
        # However late a step is, it is one step.
        self._left -= 1
        if self._left > 0:
            self._timer = self._loop.call_later(self._step_s, self._step)
        else:
            self._timeout.reschedule(self._loop.time())


class EngineCall:
    """One request to one engine. All methods raise `EngineCallFailed`."""

    def __init__(self, connections: EngineConnections, engine: str) -> None:
        self.engine = engine
        self._connections = connections
        self._connection: Any = None
        self._response: aiohttp.ClientResponse | None = None
        self._limit: asyncio.Timeout | None = None
        self._cut = False
        self._half_closed: asyncio.WriteTransport | None = None

    def connected(self, connection: Any) -> None:
        """Takes note of the connection that it got."""
        self._connection = connection

    async def begin(self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST") -> int:
        """Sends the request, and returns the status of the answer, once it begins."""
        data = body if len(body) <= _AT_ONCE_BYTES else io.BytesIO(body)
        token = _calling.set(self)
        try:
            self._response = await self._connections.session.request(
                method,
                URL(self.engine + path, encoded=True),
                data=data if body else None,
                headers=headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise EngineCallFailed(_failure_of(error)) from None
        finally:
            _calling.reset(token)
        return self._response.status

    @property
    def headers(self) -> RawHeaders:
        """The headers of the answer."""
        assert self._response is not None
        return self._response.raw_headers

    @property
    def is_stream(self) -> bool:
        """True where the answer is a stream of events."""
        assert self._response is not None
        return self._response.content_type == "text/event-stream"

    async def chunk(self) -> bytes:
        """Returns the bytes that have come, at least one; b"" at the end. What is not asked for, the engine keeps."""
        assert self._response is not None
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineCallFailed(_failure_of(error)) from None

    async def rest(self) -> EngineAnswer:
        """Returns the whole answer."""
        assert self._response is not None
        parts, length = [], 0
        while part := await self.chunk():
            parts.append(part)
            length += len(part)
            if length > MOST_ANSWER_BYTES:
                raise EngineCallFailed(EngineFailure.GARBLED)
        return EngineAnswer(self._response.status, self._response.raw_headers, b"".join(parts))

    async def whole(self, path: str, body: bytes, headers: Mapping[str, str]) -> EngineAnswer:
        """Sends the request, and returns the whole answer, whose status is 2xx."""
        await self.begin(path, body, headers)
        return await self.good()

    async def good(self) -> EngineAnswer:
        """Returns the whole answer, if its status is 2xx."""
        answer = await self.rest()
        failure = of_answer(answer.status, answer.body)
        if failure is not None:
            raise EngineCallFailed(failure, answer)
        return answer

    def within(self, limit_s: float | None) -> "_Phase":
        """Returns a context in which this call may take so long; beyond it the call fails as `SILENT`."""
        return _Phase(self, limit_s)

    def phase_begins(self, limit: asyncio.Timeout) -> None:
        """Takes the limit of the phase that begins."""
        self._limit = limit
        self._connections.note(self)

    def phase_ends(self) -> EngineFailure:
        """Forgets the phase's limit. Returns the failure that it is, if the limit was exceeded."""
        self._limit = None
        self._connections.forget(self)
        return EngineFailure.CUT if self._cut or self._half_closed is not None else EngineFailure.SILENT

    def cut_short(self) -> None:
        """Ends the phase at once, as if the connection had ended."""
        self._cut = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    def hang_up(self) -> bool:
        """Tells the engine that nobody waits, and lets it say what it has said already: its offer may be on the way.

        Returns False where the connection cannot be closed on one side only; then it has to be closed.
        """
        if self._response is not None and self._response.connection is None:
            # The answer is there, and the connection may be another call's by now.
            return True
        transport = self._connection.transport if self._connection is not None else None
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        if self._limit is None or self._limit.expired():
            return False
        self._half_closed = transport
        # Nobody else can use it.
        self._connection.protocol.force_close()
        transport.write_eof()
        self._limit.reschedule(asyncio.get_running_loop().time() + AFTER_HANG_UP_S)
        return True

    def abort(self) -> None:
        """Closes the connection at once; whoever reads from it is told that it was cut."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abort()

    def close(self) -> None:
        """Ends the call. The connection is closed unless the answer was read to its end."""
        response, self._response = self._response, None
        if self._half_closed is not None:
            # Its connection may be among those that wait to be used again.
            self._half_closed.abort()
        if response is None:
            return
        if not response.content.at_eof():
            response.close()
        else:
            response.release()

    def __enter__(self) -> "EngineCall":
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.forget(self)
        self.close()


class _Phase:
    """The time that a phase of a call may take."""

    def __init__(self, call: EngineCall, limit_s: float | None) -> None:
        self._call = call
        self._timeout = asyncio.timeout(limit_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._call.phase_begins(self._timeout)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        failure = self._call.phase_ends()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise EngineCallFailed(failure) from None


class SilenceLimit:
    """The time that may pass between two chunks of a stream. It costs nothing per chunk but a look at the clock."""

    def __init__(self, limit_s: float | None, patience_s: float, silent: Callable[[], None], left: Callable[[], None]):
        """`silent` is called where the engine has sent nothing for `limit_s`, `left` where the client has taken nothing
        for `patience_s`."""
        self.is_silent = False
        """True once the engine was silent for too long."""
        self._loop = asyncio.get_running_loop()
        self._limits = (limit_s, patience_s)
        self._then = (silent, left)
        self._since = self._loop.time()
        self._on_client = False
        self._timer = self._loop.call_later(min(limit_s or patience_s, patience_s), self._look)

    def engine(self) -> None:
        """The engine is waited for from now on."""
        self._on_client = False
        self._since = self._loop.time()

    def client(self) -> None:
        """The client is waited for from now on."""
        self._on_client = True
        self._since = self._loop.time()

    def stop(self) -> None:
        """Ends it."""
        self._timer.cancel()

    def _look(self) -> None:
        limit_s = self._limits[self._on_client]
        now = self._loop.time()
        if limit_s is not None and now - self._since >= limit_s:
            self.is_silent = not self._on_client
            self._then[self._on_client]()
            return
        shortest_s = min(each for each in self._limits if each is not None)
        due = self._since + limit_s if limit_s is not None else now + shortest_s
        self._timer = self._loop.call_at(max(min(due, now + shortest_s), now + 0.001), self._look)


def _failure_of(error: Exception) -> EngineFailure:
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError | aiohttp.InvalidURL):
        return EngineFailure.UNREACHABLE
    if isinstance(error, TimeoutError):
        return EngineFailure.SILENT
    if isinstance(error, aiohttp.ClientResponseError):
        return EngineFailure.GARBLED
    return EngineFailure.CUT
