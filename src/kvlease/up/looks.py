"""Looks at engines and router over HTTP: whether they serve, and their figures. It needs httpx, prometheus_client."""

from dataclasses import dataclass

import httpx
import msgspec

from kvlease.admin.answers import Health
from kvlease.admin.client import AdminClient, Declined, Unanswered, open_http
from kvlease.metrics.scraped import Metrics
from kvlease.router.catalogue import PREFIX
from kvlease.top.document import total
from kvlease.top.figures import READ, engines_now
from kvlease.up.plan import Launch

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE_USAGE = "vllm:kv_cache_usage_perc"
ENGINE_METRICS = (*READ, RUNNING, WAITING)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a process. A figure is None where nobody tells it."""

    answers: bool
    error: str | None = None
    """The reason why it does not answer."""
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    """The part of the KV cache in use, from 0 to 1."""
    leases: int | None = None
    held_bytes: int | None = None
    sessions: int | None = None
    draining: bool | None = None
    requests: int | None = None
    """The requests that the router has ended so far; so the next ones."""
    handed_on: int | None = None
    """The prefills that another decode engine got, since the first one failed."""
    second_prefills: int | None = None
    refused: int | None = None


def open_local(token: str | None, timeout_s: float) -> httpx.AsyncClient:
    """Returns the connections to this machine's processes; the token goes to kvlease's listeners."""
    # No proxy stands between, and nothing is encrypted, so no certificates are loaded. No connection is kept: a server
    # closes an idle one after 5 s, maybe just as it is used again.
    unkept = httpx.Limits(max_keepalive_connections=0)
    return open_http(token, timeout_s, httpx.AsyncHTTPTransport(verify=False, trust_env=False, limits=unkept))


async def serves(launch: Launch, http: httpx.AsyncClient) -> bool:
    """Tells whether a process answers that it serves."""
    try:
        return (await http.get(f"{launch.url}{launch.ready}")).status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


async def look_at(launch: Launch, http: httpx.AsyncClient) -> Look:
    """Looks at a process once. It raises nothing: one that does not answer is one more thing to show."""
    try:
        page = await AdminClient(launch.url, http).metrics_page()
        if launch.role == "router":
            return router_look(Metrics.parse(page, (PREFIX,)))
        return engine_look(launch.url, Metrics.parse(page, ENGINE_METRICS), await _health(launch, http))
    except (Declined, Unanswered) as error:
        return Look(answers=False, error=str(error))
    except (ValueError, OverflowError):
        return Look(answers=False, error="its /metrics is no page of metrics")


async def _health(launch: Launch, http: httpx.AsyncClient) -> Health | None:
    """The health that kvlease's own listener tells: it is of this moment, and needs no key of vLLM's."""
    if launch.listener is None:
        return None
    try:
        return await AdminClient(launch.listener, http).health()
    except (Declined, Unanswered):
        return None


def engine_look(url: str, page: Metrics, health: Health | None) -> Look:
    """Returns the figures of an engine; those of several data-parallel ones are added up."""
    ranks = engines_now(url, page, health, None)
    known = [msgspec.structs.asdict(rank) for rank in ranks]

    def added(name: str) -> int | None:
        values = [each[name] for each in known if each[name] is not None]
        return sum(values) if values else None

    usages = [sample.value for sample in page.samples if sample.name == CACHE_USAGE]
    sessions = [told for rank in ranks if (told := total(rank.sessions)) is not None]
    return Look(
        answers=True,
        running=_number(page, RUNNING),
        waiting=_number(page, WAITING),
        kv_usage=max(usages, default=None),
        leases=added("active_leases"),
        held_bytes=added("held_bytes"),
        sessions=sum(sessions) if sessions else None,
        draining=any(rank.draining for rank in ranks) if ranks else None,
    )


def router_look(page: Metrics) -> Look:
    """Returns the figures of the router."""
    return Look(
        answers=True,
        running=_number(page, f"{PREFIX}in_flight"),
        waiting=_number(page, f"{PREFIX}queued"),
        draining=page.value(f"{PREFIX}draining") > 0,
        requests=_number(page, f"{PREFIX}requests_total"),
        handed_on=_number(page, f"{PREFIX}handed_on_total"),
        second_prefills=_number(page, f"{PREFIX}second_prefills_total"),
        refused=_number(page, f"{PREFIX}refused_total"),
    )


def _number(page: Metrics, name: str) -> int | None:
    return int(page.value(name)) if page.has(name) else None
