"""What an operator may ask of a router: whether it lives, whether it takes requests, its figures, and its engines.

`/health`, `/ready` and `/metrics` are open, as an engine's own are. `GET /v1/kvlease/router` names the engines, so it is
guarded by the clients' keys where there are any. Nothing here tells of a request or its prompt.
"""

import hmac
import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kvlease import __version__
from kvlease.admin.answers import ErrorAnswer, ErrorDetail
from kvlease.admin.routes import as_json
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
    """The reason for which it is down."""
    since_s: float
    """The time for which it has answered looks, or has not."""
    in_flight: int
    """The router's own questions to it."""
    running: int
    """The requests that it runs, by its own word."""
    waiting: int
    """The requests in its queue."""
    kv_usage: float
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
        roles = {figure.role for figure in self.engines() if figure.condition in ("up", "draining")}
        if "decode" not in roles:
            return "no decode engine is up"
        if "prefill" not in roles and not self._settings.whole_prompt_on_decoder:
            return "no prefill engine is up"
        return None

    def engines(self) -> Iterator[EngineFigure]:
        """Yields the engines as the page of metrics shows them."""
        for seen in self._watch.engines.values():
            yield EngineFigure(seen.url, seen.role, self._condition(seen), 0, 0)

    def _condition(self, seen: SeenEngine) -> str:
        if not seen.report.healthy:
            return "down"
        return "draining" if seen.report.draining else "up"

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
        state = self._state
        now = self._clock()
        figures = {figure.url: figure for figure in self.engines()}
        return as_json(
            200,
            RouterStatus(
                version=__version__,
                draining=state.draining,
                ready=self.not_ready() is None,
                in_flight=state.in_flight(),
                queued=state.queued(),
                engines=[_entry(seen, figures[url], now) for url, seen in self._watch.engines.items()],
            ),
        )


def _entry(seen: SeenEngine, figure: EngineFigure, now: float) -> RouterEngine:
    report = seen.report
    return RouterEngine(
        url=seen.url,
        role=seen.role,
        condition=figure.condition,
        why=seen.why,
        since_s=round(now - seen.since, 3),
        in_flight=figure.in_flight,
        running=report.running,
        waiting=report.waiting,
        kv_usage=report.kv_usage,
        kvlease=report.leased,
        orphan_grace_s=report.grace_s,
    )


def _route(path: str, answer: Callable[[Request], Response]) -> Route:
    async def handle(request: Request) -> Response:
        return answer(request)

    return Route(path, handle, methods=["GET"], include_in_schema=False)
