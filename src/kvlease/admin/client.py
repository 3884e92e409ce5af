"""Asks an engine over HTTP: its /metrics page, and the routes under /v1/kvlease. It needs the package httpx."""

import asyncio
import os
from typing import Any, TypeVar

import httpx
import msgspec

from kvlease.admin.answers import Drain, ErrorAnswer, Health, LeasePage, Released, Sessions
from kvlease.errors import KvLeaseError

T = TypeVar("T")

ROUTES = "/v1/kvlease"
TIMEOUT_S = 5.0
"""The longest time for a connection, and for each part of an answer."""
WHOLE_S = 30.0
"""The longest time for a whole answer, beside what its route may wait: some servers send a byte now and then."""
MOST_BYTES = 64_000_000
"""The longest answer that is read, unpacked: whoever is asked by mistake may send without end."""
SHOWN_CHARACTERS = 200
"""The most of an answer that is none that an error shows."""


class Unanswered(KvLeaseError):
    """Nobody has answered: the connection failed, or the time was up."""


class Declined(KvLeaseError):
    """An engine answered with an error, or with something that is no answer; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_missing(self) -> bool:
        """Tells whether the route is not there: this engine does not serve it."""
        return self.status in (404, 405, 501)

    @property
    def is_forbidden(self) -> bool:
        """Tells whether the key is missing or wrong."""
        return self.status in (401, 403)


def open_http(
    api_key: str | None = None, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Returns the connections for any number of clients. The key goes to each of them, as a bearer token."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    # No redirect is followed: the key is for those who were named.
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(headers=headers, timeout=timeout_s, limits=limits, transport=transport)


class AdminClient:
    """One engine's routes. All methods raise `Unanswered` and `Declined`."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        """`url`: of vLLM's API server or of kvlease's listener, such as "http://prefill-0:8000"."""
        self.url = url.rstrip("/")
        self._http = http

    async def metrics_page(self) -> str:
        """Returns the text of the engine's /metrics page."""
        return (await self._ask("GET", "/metrics")).text

    async def version(self) -> dict[str, Any]:
        """Returns what vLLM's API server says of its version."""
        return await self._typed(dict[str, Any], "GET", "/version")

    async def health(self) -> Health:
        """Returns the health of all engines behind this URL."""
        return await self._typed(Health, "GET", f"{ROUTES}/health")

    async def leases(self, limit: int = 100, cursor: str | None = None, **which: str | float) -> LeasePage:
        """Returns a page of leases; `which` are the filters of the route, such as `state` and `min_age`."""
        asked = {"limit": limit, **({"cursor": cursor} if cursor else {}), **which}
        return await self._typed(LeasePage, "GET", f"{ROUTES}/leases", params=asked)

    async def sessions(self) -> Sessions:
        """Returns the sessions with consumers and with producers."""
        return await self._typed(Sessions, "GET", f"{ROUTES}/sessions")

    async def release(self, token: str) -> bool:
        """Ends a lease at once; nobody may read it any more."""
        return (await self._typed(Released, "POST", f"{ROUTES}/leases/{token}/release")).released

    async def drain(self, wait_s: float = 0.0) -> Drain:
        """Has the engine grant no new lease. It answers when none is left, or when `wait_s` is over."""
        timeout = httpx.Timeout(TIMEOUT_S, read=wait_s + TIMEOUT_S)
        return await self._typed(Drain, "POST", f"{ROUTES}/drain", params={"wait": wait_s}, timeout=timeout)

    async def draining(self) -> Drain:
        """Returns whether the engine is draining, and how many leases are left."""
        return await self._typed(Drain, "GET", f"{ROUTES}/drain")

    async def undrain(self) -> Drain:
        """Has the engine grant leases again."""
        return await self._typed(Drain, "DELETE", f"{ROUTES}/drain")

    async def _typed(self, kind: type[T], method: str, path: str, **more: Any) -> T:
        response = await self._ask(method, path, **more)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.MsgspecError as error:
            raise Declined(response.status_code, f"{path} is answered by somebody else: {error}") from None

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        waits_s = httpx.Timeout(more.get("timeout", TIMEOUT_S)).read or 0.0
        try:
            async with asyncio.timeout(waits_s + WHOLE_S):
                response = await _read_whole(self._http, method, self.url + path, **more)
        except (httpx.TimeoutException, TimeoutError):
            raise Unanswered("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unanswered(_plain(error)) from None
        if not response.is_success:
            raise Declined(response.status_code, f"{path}: {response.status_code}, {_said(response)}")
        return response


async def _read_whole(http: httpx.AsyncClient, method: str, url: str, **more: Any) -> httpx.Response:
    """Returns an answer, read to its end. Raises `Unanswered` for one that is too long to be an engine's."""
    async with http.stream(method, url, **more) as response:
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MOST_BYTES:
                raise Unanswered(f"an answer of more than {MOST_BYTES // 1_000_000} MB, so no engine's")
    # Its content is unpacked by now.
    headers = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=bytes(content), request=response.request)


def _plain(error: BaseException) -> str:
    """The reason of a failed connection in the operating system's words: "connection refused"."""
    reason, deeper = str(error) or type(error).__name__, error.__cause__ or error.__context__
    while deeper is not None:
        if isinstance(deeper, OSError) and deeper.errno is not None and deeper.strerror:
            reason = (os.strerror(deeper.errno) if deeper.errno > 0 else deeper.strerror).lower()
        deeper = deeper.__cause__ or deeper.__context__
    return reason.rstrip(".")


def _said(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=ErrorAnswer).error.message
    except msgspec.MsgspecError:
        return " ".join(response.text.split())[:SHOWN_CHARACTERS] or response.reason_phrase
