"""The routes for an operator: whether a router lives, whether it takes requests, its figures, and its engines.

`/health`, `/ready` and `/metrics` are open, as an engine's own are. `GET /v1/kvlease/router` names the engines, so it
is guarded by the clients' keys where there are any. Nothing here tells of a request or its prompt.
"""

import hmac
import time
from collections.abc import Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kvlease import __version__
from kvlease.admin.answers import ErrorAnswer, ErrorDetail
from kvlease.admin.routes import as_json
from kvlease.router.engines import EngineStanding, EngineView
from kvlease.router.figures import CONTENT_TYPE, EngineFigure, RouterFigures
from kvlease.router.fleet import EngineFleet
from kvlease.router.settings import RouterSettings
from kvlease.router.watching import FleetWatch, SeenEngine

STATUS_ROUTE = "/v1/kvlease/router"


class RouterEngine(msgspec.Struct, frozen=True):
    """One engine, as the router sees it."""

    url: str
    role: str
    """"prefill" or "decode"."""
    condition: str
    """One of `catalogue.CONDITIONS`."""
    why: str | None
    """The reason for which it does not answer looks."""
    since_s: float | None
    """The time for which it has answered looks, or has not."""
    in_flight: int
    """The calls of this router that are under way there."""
    running: int | None
    """The requests that it runs, by its own last word, if there was one."""
    waiting: int | None
    """The requests in its queue."""
    kv_usage: float | None
    """The share of its KV cache in use, from 0 to 1."""
    kvlease: bool | None
    """True for kvlease's connector, false for stock's, null where that cannot be seen."""
    orphan_grace_s: float | None
    """Its `kv_lease_orphan_grace`, where it says so."""


class RouterStatus(msgspec.Struct, frozen=True):
    """The answer to `GET /v1/kvlease/router`."""

    version: str
    draining: bool
    ready: bool
    in_flight: int
    queued: int
    engines: list[RouterEngine]


class Keys:
    """The keys of which a client has to send one."""

    def __init__(self, keys: frozenset[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def admit(self, authorization: str | None) -> bool:
        """Tells whether this header carries a key, or none is needed."""
        if not self._keys:
            return True
        kind, _, token = (authorization or "").partition(" ")
        said = token.strip().encode()
        # All of them are compared, each in constant time: the time tells nothing of the keys.
        found = [hmac.compare_digest(said, key) for key in self._keys]
        return kind.lower() == "bearer" and any(found)


class RouterState:
    """The state of a router that its routes tell: what runs, what waits, and whether it is to end."""

    def __init__(self) -> None:
        self.draining = False
        """True from the first signal on: nothing new is taken."""
        self.in_flight: Callable[[], int] = lambda: 0
        self.queued: Callable[[], int] = lambda: 0

    def busy(self) -> int:
        """Returns the number of requests that run or wait."""
        return self.in_flight() + self.queued()


def unauthorized() -> Response:
    """Returns the answer to a request without one of the router's keys."""
    response = as_json(401, ErrorAnswer(ErrorDetail("a key is missing, or none of this router's", "Unauthorized", 401)))
    response.headers["www-authenticate"] = "Bearer"
    return response


class OperatorRoutes:
    """The routes, for the application that has the others."""

    def __init__(
        self,
        settings: RouterSettings,
        fleet: EngineFleet,
        watch: FleetWatch,
        figures: RouterFigures,
        state: RouterState,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._keys = Keys(settings.api_keys)
        self._fleet = fleet
        self._watch = watch
        self._figures = figures
        self._state = state
        self._clock = clock

    def routes(self) -> list[Route]:
        """Returns the routes."""
        found: Mapping[str, Callable[[Request], Response]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            STATUS_ROUTE: self._status,
        }
        return [_route(path, answer) for path, answer in found.items()]

    def not_ready(self) -> str | None:
        """Returns the reason for which no request should be sent here; None where there is none."""
        if self._state.draining:
            return "draining"
        views = self._fleet.snapshot(self._clock())
        roles = {view.role for view in views if condition(view) in ("up", "draining")}
        if "decode" not in roles:
            return "no decode engine is up"
        if "prefill" not in roles and not self._settings.whole_prompt_on_decoder:
            return "no prefill engine is up"
        return None

    def _health(self, _request: Request) -> Response:
        return as_json(200, {"status": "ok"})

    def _ready(self, _request: Request) -> Response:
        reason = self.not_ready()
        return as_json(200, {"ready": True}) if reason is None else as_json(503, {"ready": False, "reason": reason})

    def _metrics(self, _request: Request) -> Response:
        return Response(self._figures.page(), media_type=CONTENT_TYPE)

    def _status(self, request: Request) -> Response:
        if not self._keys.admit(request.headers.get("authorization")):
            return unauthorized()
        state, now = self._state, self._clock()
        entries = [_entry(view, self._watch.engines.get(view.url), now) for view in self._fleet.snapshot(now)]
        ready = self.not_ready() is None
        status = RouterStatus(__version__, state.draining, ready, state.in_flight(), state.queued(), entries)
        return as_json(200, status)


def condition(view: EngineView) -> str:
    """Returns the condition of an engine (`catalogue.CONDITIONS`)."""
    if view.left:
        return "leaving"
    if view.report is None or not view.healthy:
        return "down"
    if view.standing is EngineStanding.SHUT:
        return "open"
    return "draining" if view.draining else "up"


def engine_figures(fleet: EngineFleet, now: float) -> list[EngineFigure]:
    """Returns the engines as the page of metrics shows them."""
    return [EngineFigure(view.url, view.role, condition(view), view.in_flight) for view in fleet.snapshot(now)]


def _entry(view: EngineView, seen: SeenEngine | None, now: float) -> RouterEngine:
    report = view.report
    return RouterEngine(
        url=view.url,
        role=view.role,
        condition=condition(view),
        why=seen.why if seen else None,
        since_s=round(now - seen.since, 3) if seen else None,
        in_flight=view.in_flight,
        running=report.running if report else None,
        waiting=report.waiting if report else None,
        kv_usage=report.kv_usage if report else None,
        kvlease=view.leased,
        orphan_grace_s=report.grace_s if report else None,
    )


def _route(path: str, answer: Callable[[Request], Response]) -> Route:
    async def handle(request: Request) -> Response:
        return answer(request)

    return Route(path, handle, methods=["GET"], include_in_schema=False)
