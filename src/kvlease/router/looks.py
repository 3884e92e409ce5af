"""One look at an engine: what it is asked over HTTP, and what its answers say.

A page of metrics has half a megabyte with some data-parallel ranks, and an engine is looked at every second: only the
lines that are wanted are found in it, and not parsed by a client of Prometheus, which takes a hundred times as long and
would hold up the streams of all clients. It needs the package aiohttp.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import msgspec

from kvlease.admin.answers import ErrorAnswer, Health
from kvlease.errors import KvLeaseError
from kvlease.router.engines import EngineReport

MAX_PAGE_BYTES = 8_000_000
"""The longest answer that is read."""
HEALTH_ROUTE = "/v1/kvlease/health"
ENDS = "the engine shuts down"
"""The beginning of what an engine's routes answer, with 503, once it has been told to end."""
_RUNNING = b"vllm:num_requests_running"
_WAITING = b"vllm:num_requests_waiting"
_USAGE = b"vllm:kv_cache_usage_perc"
_AGENT = b"kvlease:agent_up"
_DRAINING = b"kvlease:draining"


class NoLook(KvLeaseError):
    """An engine has not answered a look, or is not healthy. The message says which."""


class LeaseWord(NamedTuple):
    """An engine's word on its leases, from its routes, where it serves them."""

    draining: bool = False
    grace_s: float | None = None
    served: bool = False
    """The routes are there."""


SILENCE = LeaseWord()
"""The word of an engine that has said nothing of its leases."""


def values_of(page: bytes, name: bytes) -> list[float]:
    """Returns the values of all samples of that name; those that cannot be read are left out."""
    found = []
    for mark in (b"\n" + name + b"{", b"\n" + name + b" "):
        at = page.find(mark)
        while at >= 0:
            end = page.find(b"\n", at + 1)
            line = page[at + 1 : end if end >= 0 else len(page)]
            at = page.find(mark, end) if end >= 0 else -1
            try:
                # After the labels, whose values may contain anything.
                found.append(float(line.rpartition(b"}")[2].removeprefix(name).split()[0]))
            except (ValueError, IndexError):
                continue
    return found


def read_page(page: bytes, word: LeaseWord = SILENCE) -> EngineReport:
    """Returns the report of an engine that is healthy, from its page of metrics and its word on its leases."""
    page = b"\n" + page
    usage = values_of(page, _USAGE)
    kvlease, draining = values_of(page, _AGENT), values_of(page, _DRAINING)
    is_vllm = kvlease or usage or b"\nvllm:" in page
    return EngineReport(
        running=_count(values_of(page, _RUNNING)),
        waiting=_count(values_of(page, _WAITING)),
        kv_usage=min(1.0, max(0.0, sum(usage) / len(usage))) if usage else 0.0,
        # A page that says nothing of a drain is no sign that there is none: vLLM has no metric for its own.
        draining=True if word.draining or (draining and min(draining) > 0) else None,
        leased=bool(kvlease) if is_vllm else None,
        grace_s=word.grace_s,
    )


def _count(values: list[float]) -> int:
    total = sum(values)
    return int(total) if 0 <= total < 1e9 else 0


def read_health(status: int, body: bytes) -> LeaseWord:
    """Returns the word on its leases in the answer of an engine's route."""
    try:
        if status == 200:
            engines = msgspec.json.decode(body, type=Health).engines
            # An agent that is dead grants and claims nothing: what comes here is computed twice.
            away = bool(engines) and all(engine.draining or engine.agent != "up" for engine in engines)
            grace_s = min((engine.settings.orphan_grace_s for engine in engines), default=None)
            return LeaseWord(away, grace_s, served=True)
        if status == 503:
            said = msgspec.json.decode(body, type=ErrorAnswer).error.message
            return LeaseWord(draining=said.startswith(ENDS), served=True)
    except msgspec.MsgspecError:
        pass
    return SILENCE


async def look_at(http: aiohttp.ClientSession, url: str, limit_s: float, word: LeaseWord) -> EngineReport:
    """Asks an engine for its health and its metrics. Raises `NoLook`.

    An engine without a page of metrics is used all the same: then its load is what the router has sent it.
    """
    status, _ = await _get(http, url + "/health", limit_s)
    if status != 200:
        raise NoLook(f"its /health answers {status}")
    status, page = await _get(http, url + "/metrics", limit_s)
    return read_page(page if status == 200 else b"", word)


async def ask_leases(http: aiohttp.ClientSession, url: str, limit_s: float, headers: Mapping[str, str]) -> LeaseWord:
    """Asks an engine's routes for its leases. Raises `NoLook`."""
    return read_health(*await _get(http, url + HEALTH_ROUTE, limit_s, headers))


async def _get(
    http: aiohttp.ClientSession, url: str, limit_s: float, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(limit_s), http.get(url, headers=headers, allow_redirects=False) as response:
            content = bytearray()
            async for part in response.content.iter_any():
                content += part
                if len(content) > MAX_PAGE_BYTES:
                    raise NoLook(f"its answer has more than {MAX_PAGE_BYTES // 1_000_000} MB")
            return response.status, bytes(content)
    except TimeoutError:
        raise NoLook(f"no answer within {limit_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoLook(_plain(error)) from None


def _plain(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return str(error) or type(error).__name__
