"""The routes under /v1/kvlease: what is asked, and the answer, over HTTP. They are the same behind every door."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kvlease.admin.answers import Drain, ErrorAnswer
from kvlease.admin.core import Refused
from kvlease.admin.engines import Engines
from kvlease.admin.openapi import OPERATIONS, Operation, document
from kvlease.admin.questions import LeasesQuestion
from kvlease.admin.reading import read_prefix, read_query

PREFIX = "/v1/kvlease"
POLL_S = 0.1
"""The pause between two looks at what is left, while a drain is waited for."""
MAX_WAITING = 16
"""The most requests that wait for drains at a time: one is enough for a preStop."""
MAX_ASKING = 64
"""The most requests that are answered at a time, those that wait for drains aside."""

Handler = Callable[["AdminRoutes", Request, Mapping[str, Any]], Awaitable[Response]]


def as_json(status: int, body: object) -> Response:
    """Returns a response with this body."""
    # What an engine holds at a moment is not to be kept anywhere.
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def as_error(refused: Refused) -> Response:
    """Returns the response to what is refused."""
    response = as_json(refused.status, ErrorAnswer(refused.detail))
    if refused.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    return response


class AdminRoutes:
    """The routes to the engines behind one door."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._waiting = 0
        self._asking = 0

    def routes(self) -> list[Route]:
        """Returns the routes, for an application of Starlette or FastAPI."""
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in OPERATIONS:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        return [self._route(path, methods) for path, methods in by_path.items()]

    def _route(self, path: str, methods: Mapping[str, Operation]) -> Route:
        async def handle(request: Request) -> Response:
            operation = methods["GET" if request.method == "HEAD" else request.method]
            try:
                query = read_query(request.query_params.multi_items(), operation.parameters)
                return await self._bounded(operation, request, query)
            except Refused as e:
                return as_error(e)

        return Route(PREFIX + path, handle, methods=list(methods), name=f"kvlease{path}", include_in_schema=False)

    async def _bounded(self, operation: Operation, request: Request, query: Mapping[str, Any]) -> Response:
        if self._asking >= MAX_ASKING + self._waiting:
            raise Refused(429, f"{MAX_ASKING} requests are being answered: ask again in a moment")
        self._asking += 1
        try:
            return await _HANDLERS[operation.name](self, request, query)
        finally:
            self._asking -= 1

    # -- what is asked -------------------------------------------------------------------------------------------

    async def health(self, _request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `GET health`."""
        return as_json(200, await self._engines.health())

    async def leases(self, _request: Request, query: Mapping[str, Any]) -> Response:
        """Answers `GET leases`."""
        rank, number = query.get("cursor", (0, 0))
        question = LeasesQuestion(
            state=query.get("state"),
            consumer=query.get("consumer", ""),
            request=query.get("request", ""),
            min_age_s=query.get("min_age", 0.0),
            limit=query.get("limit", 100),
            after_rank=rank,
            after=number,
            full_tokens=query.get("full_tokens", False),
        )
        return as_json(200, await self._engines.leases(question))

    async def sessions(self, _request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `GET sessions`."""
        return as_json(200, await self._engines.sessions())

    async def release(self, request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `POST leases/{token}/release`."""
        return as_json(200, await self._engines.release(read_prefix(request.path_params["token"])))

    async def drain(self, request: Request, query: Mapping[str, Any]) -> Response:
        """Answers `POST drain`: at once, or when nothing is left or the wait is over."""
        state = await self._engines.drain(True)
        if state.left and (wait_s := query.get("wait", 0.0)):
            if self._waiting >= MAX_WAITING:
                raise Refused(
                    429,
                    f"{MAX_WAITING} requests wait for this drain already. The engine is draining; ask with GET how "
                    "far it is",
                )
            self._waiting += 1
            try:
                state = await self._wait(request, wait_s)
            finally:
                self._waiting -= 1
        return as_json(202 if state.left else 200, state)

    async def _wait(self, request: Request, wait_s: float) -> Drain:
        until = time.monotonic() + wait_s
        while True:
            await asyncio.sleep(max(0.0, min(POLL_S, until - time.monotonic())))
            state = await self._engines.drain()
            if not state.draining:
                raise Refused(409, "the drain was undone (DELETE drain) while this request waited for it")
            if not state.left or time.monotonic() >= until or await request.is_disconnected():
                return state

    async def draining(self, _request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `GET drain`."""
        return as_json(200, await self._engines.drain())

    async def undrain(self, _request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `DELETE drain`."""
        return as_json(200, await self._engines.drain(False))

    async def openapi(self, _request: Request, _query: Mapping[str, Any]) -> Response:
        """Answers `GET openapi.json`."""
        return as_json(200, document(PREFIX))


_HANDLERS: Mapping[str, Handler] = {
    "health": AdminRoutes.health,
    "leases": AdminRoutes.leases,
    "release": AdminRoutes.release,
    "sessions": AdminRoutes.sessions,
    "draining": AdminRoutes.draining,
    "drain": AdminRoutes.drain,
    "undrain": AdminRoutes.undrain,
    "openapi": AdminRoutes.openapi,
}
"""Each operation's own, by its name."""
