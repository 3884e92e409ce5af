"""Asks engines over HTTP for metrics, health and version."""

import asyncio
import math
from collections.abc import Sequence

import httpx

from kvlease.admin.answers import EngineHealth
from kvlease.admin.client import AdminClient, Declined, Unanswered
from kvlease.doctor.running import RunningEngine
from kvlease.metrics.metric import PREFIX
from kvlease.metrics.scraped import Metrics


async def ask_all(http: httpx.AsyncClient, urls: Sequence[str]) -> list[RunningEngine]:
    """Asks all engines at the same time."""
    return await asyncio.gather(*(ask(http, url) for url in urls))


async def ask(http: httpx.AsyncClient, url: str) -> RunningEngine:
    """Asks one engine for all that is looked at."""
    client = AdminClient(url, http)
    try:
        page = _sound(Metrics.parse(await client.metrics_page()))
    except Unanswered as reason:
        return RunningEngine(url, unreachable=str(reason))
    except (Declined, ValueError):
        page = None
    health, no_health = await _health(client)
    return RunningEngine(url, None, page, health, no_health, await _version(client))


def _sound(page: Metrics) -> Metrics:
    """Returns the page. Raises ValueError where it was cut off, or has no number where one belongs."""
    if not all(math.isfinite(sample.value) for sample in page.samples if sample.name.startswith(PREFIX)):
        raise ValueError("NaN, or something infinite, is no figure of kvlease's")
    for name in {sample.name for sample in page.samples if sample.name.endswith("_bucket")}:
        page.histogram(name.removesuffix("_bucket"))
    return page


async def _health(client: AdminClient) -> tuple[Sequence[EngineHealth], str]:
    try:
        return (await client.health()).engines, ""
    except (Declined, Unanswered) as reason:
        return (), str(reason)


async def _version(client: AdminClient) -> str | None:
    try:
        return str((await client.version())["version"])
    except (Declined, Unanswered, KeyError):
        return None
