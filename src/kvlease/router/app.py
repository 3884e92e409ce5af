"""The application that serves the router's clients: OpenAI's APIs, for any ASGI server.

`/v1/completions`, `/v1/chat/completions` and `/v1/responses` are prefilled on one engine and decoded on another. What
carries no KV cache (`PLAIN`) goes to a decode engine. Everything else is 404: an engine's other routes, such as those
that put it to sleep, are no client's business.

It needs the packages starlette and aiohttp.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any

import msgspec
from starlette.routing import BaseRoute, Router

from kvlease.router.bodies import Api, BadBody, ClientBody, PlainBody, decode_fields, read_body, strip_transfers
from kvlease.router.clients import (
    BodyLate,
    BodyRoom,
    BodyTooLong,
    ClientExchange,
    ClientLeft,
    NoRoom,
    Receive,
    Scope,
    Send,
)
from kvlease.router.continuing import StreamContinuation
from kvlease.router.counting import CountsRequests, RequestRecord
from kvlease.router.handling import RequestHandling, RouterParts
from kvlease.router.operating import Keys, RouterState
from kvlease.router.passing import for_engines
from kvlease.router.releasing import LeaseReleases
from kvlease.router.settings import RouterSettings
from kvlease.router.turns import NoTurn, RequestTurns
from kvlease.router.upstream import EngineConnections
from kvlease.routing.affinity import keys_of
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget
from kvlease.routing.request import RoutedRequest

ENDPOINTS = {Api.COMPLETIONS: "completions", Api.CHAT: "chat", Api.RESPONSES: "responses"}
"""The names of the APIs in the figures."""
PLAIN = {
    "/v1/models": "GET",
    "/version": "GET",
    "/tokenize": "POST",
    "/detokenize": "POST",
    "/v1/completions/render": "POST",
    "/v1/chat/completions/render": "POST",
    "/v1/embeddings": "POST",
}
"""The paths that carry no KV cache, with their methods."""
LONGEST_BODIES = 16
"""The bodies of the greatest length for which there is room at once; of shorter ones there are more."""
DRAIN_RELEASES_S = 5.0
"""The longest wait for releases when the router ends."""


class RouterApp:
    """The application. It is called by an ASGI server; whatever else is public is for `serving`."""

    def __init__(
        self,
        fleet: EngineFleet,
        settings: RouterSettings,
        figures: CountsRequests,
        state: RouterState,
        routes: Sequence[BaseRoute] = (),
        *,
        now: Callable[[], float] = time.monotonic,
        chance: Random | None = None,
    ) -> None:
        """See `open_app`."""
        policy = settings.policy()
        connections = EngineConnections(policy.limits.connect_s)
        releases = LeaseReleases(connections, policy.limits.release_s, lambda way: figures.count("release_ways", way))
        budget = RetryBudget(policy, now())
        chance = chance or random.Random()
        self._parts = RouterParts(fleet, policy, budget, chance, now, connections, releases)
        self._settings = settings
        self._figures = figures
        self._state = state
        self._keys = Keys(settings.api_keys)
        self._room = BodyRoom(LONGEST_BODIES * settings.max_body_bytes)
        self._turns = RequestTurns(settings.admission(), now)
        self._others = Router(routes=list(routes), default=self._not_found, redirect_slashes=False)
        state.in_flight = lambda: self._turns.in_flight
        state.queued = lambda: self._turns.waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as an ASGI server asks for it."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        api = _APIS.get(path)
        if (api is not None and method == "POST") or PLAIN.get(path) == method:
            client = ClientExchange(scope, receive, send)
            try:
                await self._route(client, api)
            finally:
                self._room.give(client.body_bytes)
        else:
            await self._others(scope, receive, send)

    def engine_died(self, engine: str) -> None:
        """Ends the calls to an engine that have had no token yet: `EngineFleet.report` has returned True for it."""
        self._parts.connections.end_calls(engine)

    @property
    def releases(self) -> LeaseReleases:
        """The releases that are under way."""
        return self._parts.releases

    async def close(self) -> None:
        """Ends all connections to engines, once the releases are out."""
        await self._parts.releases.drain(DRAIN_RELEASES_S)
        await self._parts.connections.close()

    # -- one request ---------------------------------------------------------------------------------------------

    async def _route(self, client: ClientExchange, api: Api | None) -> None:
        record = RequestRecord(self._figures, ENDPOINTS[api] if api is not None else "other", self._parts.now)
        try:
            body = await self._admit(client, api, record)
            if body is None:
                return
            await self._take_turn(client)
        except NoTurn as full:
            record.refused(full.reason)
            message = "the router has as many requests as it may have; try again later"
            await client.refuse(429, "rate_limit_exceeded", message, retry_after_s=int(full.retry_after_s))
            return
        except ClientLeft:
            record.left_early()
            return
        try:
            await self._handle(client, body, record)
        finally:
            self._turns.leave(client)

    async def _take_turn(self, client: ClientExchange) -> None:
        """Waits for the request's turn. Raises `NoTurn` and `ClientLeft`."""
        task = asyncio.current_task()
        assert task is not None
        client.watch(task.cancel)
        try:
            await self._turns.take(client)
        except asyncio.CancelledError:
            self._turns.leave(client)
            if client.gone:
                raise ClientLeft from None
            raise
        except NoTurn:
            client.unwatch()
            raise

    async def _admit(
        self, client: ClientExchange, api: Api | None, record: RequestRecord
    ) -> ClientBody | PlainBody | None:
        """Returns the request's body; None where the client has been refused. Raises `ClientLeft`."""
        if self._state.draining:
            record.refused("draining")
            await client.refuse(503, "draining", "the router is about to end; ask another one", retry_after_s=1)
            return None
        key = client.header(b"authorization")
        if not self._keys.admit(key.decode("latin-1") if key is not None else None):
            record.refused("unauthorized")
            await client.refuse(401, "Unauthorized", "a key is missing, or none of this router's")
            return None
        most = self._settings.max_body_bytes
        try:
            content = await client.body(most, self._room)
            return read_body(api, content) if api is not None else _plain(client.scope, content)
        except BodyTooLong:
            record.refused("too_long")
            await client.refuse(413, "body_too_long", f"the body has more than {most:,} bytes, the most that is taken")
        except BodyLate:
            record.refused("late_body")
            await client.refuse(408, "late_body", "the body has begun to come, and nothing more of it came")
        except NoRoom:
            record.refused("no_room")
            message = "the router has as many long bodies as it may have; try again later"
            await client.refuse(429, "rate_limit_exceeded", message, retry_after_s=1, unread=True)
        except BadBody as error:
            record.refused("bad_request")
            await client.refuse(400, "invalid_request_error", str(error), param=error.param)
        return None

    async def _handle(self, client: ClientExchange, body: ClientBody | PlainBody, record: RequestRecord) -> None:
        parts, settings = self._parts, self._settings
        continuation: StreamContinuation | None = None
        keys: tuple[bytes, ...] = ()
        if isinstance(body, ClientBody):
            session = client.header(b"x-session-id")
            keys = keys_of(body.affinity_key(), None if session is None else session.decode("latin-1"))
            continuation = StreamContinuation.of(body) if parts.policy.continue_streams else None
        request = RoutedRequest(
            parts.fleet,
            parts.policy,
            parts.budget,
            parts.chance,
            keys=keys,
            prefill=not body.whole,
            continuable=continuation is not None,
            tell=record.hear,
        )
        headers = for_engines(client.headers, settings.engine_key, bool(settings.api_keys))
        await RequestHandling(parts, request, client, body, headers, record, continuation).run()

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            return
        client = ClientExchange(scope, receive, send)
        path, method = scope["path"], scope["method"]
        if path in _APIS or path in PLAIN:
            await client.refuse(405, "method_not_allowed", f"{path} takes {PLAIN.get(path, 'POST')}, not {method}")
        else:
            await client.refuse(404, "not_found", f"the router has no route {path[:200]}")


@contextlib.asynccontextmanager
async def open_app(
    fleet: EngineFleet,
    settings: RouterSettings,
    figures: CountsRequests,
    state: RouterState,
    routes: Sequence[BaseRoute] = (),
    *,
    now: Callable[[], float] = time.monotonic,
    chance: Random | None = None,
) -> AsyncIterator[RouterApp]:
    """A context with the application, in the event loop that runs; at its end what it has begun is ended.

    Args:
        fleet: the engines. Whoever finds one dead (`EngineFleet.report` returns True) calls `RouterApp.engine_died`.
        settings: the operator's.
        figures: `RouterFigures`, where requests, attempts and releases are counted.
        state: what runs and waits is shown there; while it is `draining`, nothing new is taken.
        routes: whatever else the router serves, such as `OperatorRoutes.routes()`.
        now: monotonic seconds.
        chance: what retries and choices draw from.
    """
    app = RouterApp(fleet, settings, figures, state, routes, now=now, chance=chance)
    try:
        yield app
    finally:
        await app.close()


_APIS: dict[str, Api] = {api.value: api for api in Api}


def _plain(scope: Scope, content: bytes) -> PlainBody:
    """Returns a request that carries no KV cache, without what clients must not write. Raises `BadBody`."""
    query: Any = scope.get("query_string") or b""
    target = f"{scope['path']}?{query.decode('latin-1')}" if query else scope["path"]
    if scope["method"] == "POST":
        fields = decode_fields(content)
        strip_transfers(fields)
        return PlainBody("POST", target, msgspec.json.encode(fields))
    return PlainBody("GET", target, b"")
