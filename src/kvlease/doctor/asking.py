"""Asks engines over HTTP for metrics, health and version."""

import asyncio
from collections.abc import Sequence

import httpx
import msgspec

from kvlease.admin.answers import EngineHealth
from kvlease.admin.client import AdminClient, Declined, Unanswered
from kvlease.doctor.running import RunningEngine
from kvlease.metrics.scraped import Metrics


async def ask_all(http: httpx.AsyncClient, urls: Sequence[str]) -> list[RunningEngine]:
    """Asks all engines at the same time."""
    return await asyncio.gather(*(ask(http, url) for url in urls))


async def ask(http: httpx.AsyncClient, url: str) -> RunningEngine:
    """Asks one engine for all that is looked at."""
    client = AdminClient(url, http)
    try:
        page = Metrics.parse(await client.metrics_page())
    except Unanswered as reason:
        return RunningEngine(url, unreachable=str(reason))
    except (Declined, ValueError):
        page = None
    health, no_health = await _health(client)
    return RunningEngine(url, None, page, health, no_health, await _version(http, url))


async def _health(client: AdminClient) -> tuple[Sequence[EngineHealth], str]:
    try:
        return (await client.health()).engines, ""
    except (Declined, Unanswered) as reason:
        return (), str(reason)


async def _version(http: httpx.AsyncClient, url: str) -> str | None:
    try:
        response = await http.get(f"{url}/version")
        return str(msgspec.json.decode(response.content, type=dict[str, object])["version"])
    except (httpx.HTTPError, msgspec.MsgspecError, KeyError):
        return None
