"""The routes for an operator: alive, ready, figures, and the engines with their condition."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from starlette.routing import Router

from kvlease.doctor import hand_off_checks
from kvlease.doctor.findings import examine
from kvlease.doctor.trial import try_router
from kvlease.metrics.scraped import Metrics
from kvlease.router.app import open_app
from kvlease.router.catalogue import CONDITIONS
from kvlease.router.engines import EngineReport, EngineRole
from kvlease.router.failures import EngineFailure
from kvlease.router.figures import RouterFigures
from kvlease.router.fleet import EngineFleet
from kvlease.router.operating import STATUS_ROUTE, Keys, OperatorRoutes, RouterState, engine_figures
from kvlease.router.watching import FleetWatch
from kvlease.testing.http_engines import FakeEngine
from kvlease.testing.http_engines.connection import Exchange
from tests.router.settings import settings_of

P, D, D1 = "http://p0:8000", "http://d0:8000", "http://d1:8000"
KEY = "0123456789abcdef"
WELL = EngineReport(running=2, waiting=1, kv_usage=0.5, leased=True, grace_s=1.0)


class Stage:
    """The routes of a router with engines that have not been looked at."""

    def __init__(self, **chosen: Any) -> None:
        self.now = 100.0
        self.state = RouterState()
        self.fleet = EngineFleet()
        self.figures = RouterFigures(lambda: engine_figures(self.fleet, self.now))
        settings = settings_of(**chosen)
        self.watch = FleetWatch(self.fleet, settings, self.figures, lambda _: None, clock=lambda: self.now)
        self.watch.follow({P: "prefill", D: "decode"})
        routes = OperatorRoutes(settings, self.fleet, self.watch, self.figures, self.state, lambda: self.now)
        self._app = Router(routes=routes.routes())

    def report(self, url: str, report: EngineReport = WELL) -> None:
        """An engine says something."""
        self.fleet.report(self.now, url, report)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """What the router answers."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
                return await http.get(path, headers=headers)

        return asyncio.run(asked())


def test_it_is_alive_whatever_its_engines_are() -> None:
    assert Stage().get("/health").status_code == 200


def test_it_is_ready_while_a_decode_engine_answers() -> None:
    stage = Stage()

    def ready() -> tuple[int, Any]:
        answer = stage.get("/ready")
        return answer.status_code, answer.json().get("reason")

    assert ready() == (503, "no decode engine is up")
    stage.report(P)
    assert ready() == (503, "no decode engine is up")
    stage.report(D)
    assert ready() == (200, None)
    # One that drains still answers, if need be.
    stage.report(D, EngineReport(draining=True))
    assert ready() == (200, None)
    for _ in range(2):
        stage.report(D, EngineReport(healthy=False))
    assert ready() == (503, "no decode engine is up")
    stage.report(D)
    stage.state.draining = True
    assert ready() == (503, "draining")


def test_without_whole_prompts_it_needs_a_prefill_engine() -> None:
    stage = Stage(whole_prompt_on_decoder=False)
    stage.report(D)
    assert stage.get("/ready").json() == {"ready": False, "reason": "no prefill engine is up"}
    stage.report(P)
    assert stage.get("/ready").json() == {"ready": True}


def test_it_tells_its_engines_and_what_is_wrong_with_each() -> None:
    stage = Stage()
    stage.report(D)
    stage.state.in_flight = lambda: 3
    stage.now += 2.5
    status = stage.get(STATUS_ROUTE).json()
    assert (status["ready"], status["draining"], status["in_flight"], status["queued"]) == (True, False, 3, 0)
    by_url = {engine.pop("url"): engine for engine in status["engines"]}
    assert by_url[P] == {
        "role": "prefill",
        "condition": "down",
        "why": "not looked at yet",
        "since_s": 2.5,
        "in_flight": 0,
        "running": None,
        "waiting": None,
        "kv_usage": None,
        "kvlease": None,
        "orphan_grace_s": None,
    }
    assert by_url[D]["condition"] == "up"
    assert {name: by_url[D][name] for name in ("running", "waiting", "kv_usage", "kvlease", "orphan_grace_s")} == {
        "running": 2,
        "waiting": 1,
        "kv_usage": 0.5,
        "kvlease": True,
        "orphan_grace_s": 1.0,
    }


def test_every_condition_has_its_reason() -> None:
    stage = Stage()
    found = []

    def now_is(change: Callable[[], object]) -> None:
        change()
        found.append({engine["url"]: engine for engine in stage.get(STATUS_ROUTE).json()["engines"]}[D]["condition"])

    def fail() -> None:
        for _ in range(3):
            stage.fleet.begun(D)
            stage.fleet.ended(stage.now, D, EngineFailure.CUT, trial=False)

    def leave() -> None:
        stage.fleet.begun(D)
        stage.watch.follow({})

    now_is(lambda: None)
    now_is(lambda: stage.report(D))
    now_is(lambda: stage.report(D, EngineReport(draining=True)))
    now_is(fail)
    now_is(leave)
    assert found == ["down", "up", "draining", "open", "leaving"]
    assert set(found) == set(CONDITIONS)
    metrics = Metrics.parse(stage.get("/metrics").text)
    assert metrics.by_label("kvlease_router:engines", "condition") == {"leaving": 1}


def test_its_engines_are_told_to_those_alone_who_have_a_key() -> None:
    stage = Stage(api_keys=frozenset({KEY}))
    refused = stage.get(STATUS_ROUTE)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["code"] == 401
    assert P not in refused.text
    assert stage.get(STATUS_ROUTE, Authorization=f"Bearer {KEY}").status_code == 200
    assert [stage.get(path).status_code for path in ("/health", "/metrics")] == [200, 200]


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer  {KEY} ", True),
        (f"Basic {KEY}", False),
        (KEY, False),
        (f"Bearer {KEY}0", False),
        ("Bearer é", False),
        ("", False),
        (None, False),
    ],
)
def test_a_key_is_a_bearer_token(header: str | None, admitted: bool) -> None:
    assert Keys(frozenset({KEY, "another-key-of-ours"})).admit(header) is admitted
    assert Keys(frozenset()).admit(header)


class CountingEngine(FakeEngine):
    """A fake engine whose page has the counters that the doctor looks at."""

    def _metrics(self, exchange: Exchange) -> None:
        granted, read = self.books.leases.ended["granted"], self.books.reads["read"]
        lines = [
            "kvlease:agent_up 1",
            f"kvlease:grants_total {granted}",
            f'kvlease:fence_checks_total{{verdict="intact"}} {read}',
            f"kvlease:unfenced_reads_total {self.books.reads['unfenced']}",
        ]
        exchange.answer(200, "\n".join([*lines, ""]).encode(), "text/plain; version=0.0.4")


def test_the_doctor_finds_nothing_wrong_with_it() -> None:
    """`kvlease doctor --router`: a completion through it is prefilled on one engine, and read by the other."""

    async def tried() -> tuple[dict[str, float], list[Any]]:
        prefill, decode = CountingEngine("prefill"), CountingEngine("decode")
        fleet, figures = EngineFleet(), RouterFigures()
        async with prefill, decode, open_app(fleet, settings_of(), figures, RouterState()) as app:
            fleet.join(0.0, prefill.url, EngineRole.PREFILL)
            fleet.join(0.0, decode.url, EngineRole.DECODE)
            router: AbstractAsyncContextManager[httpx.AsyncClient] = httpx.AsyncClient(
                mounts={"all://router": httpx.ASGITransport(app)}
            )
            async with router as http:
                trial = await try_router(http, "http://router", [prefill.url, decode.url])
        return dict(trial.rose), examine(hand_off_checks.CHECKS, trial, "http://router")

    assert asyncio.run(tried()) == ({"granted": 1, "intact": 1}, [])
