"""A small fleet as time goes by: traffic, and a decode engine that hangs, dies and comes back."""

import math

from kvlease.admin.answers import ProducerEntry
from tests.top.canned import CannedEngine, CannedServer, consumer, lease

URLS = ("http://prefill-0:8000", "http://prefill-1:8000", "http://decode-0:8200", "http://decode-1:8200")
HANGS_S, DIES_S, RETURNS_S = 40.0, 60.0, 75.0
"""The times at which decode-1 stops to renew, is gone, and is there again; it hangs first."""


def fleet(urls: tuple[str, ...] = URLS) -> list[CannedServer]:
    """Returns two prefill engines, of which the second drains at last, and two decode engines."""
    names = ("prefill-0", "prefill-1", "decode-0", "decode-1")
    servers = [CannedServer(url, [CannedEngine(name)]) for url, name in zip(urls, names, strict=True)]
    play(servers, 0.0)
    return servers


def play(servers: list[CannedServer], now: float) -> None:
    """Has the fleet be as it is `now` seconds after its start."""
    for number, server in enumerate(servers[:2]):
        _producer(server.engines[0], number, now)
    for number, server in enumerate(servers[2:]):
        _consumer(server.engines[0], number, now)
    servers[3].alive = not DIES_S <= now < RETURNS_S


def _producer(engine: CannedEngine, number: int, now: float) -> None:
    hung_s = now - HANGS_S if HANGS_S <= now < RETURNS_S else 0.0
    wave = 6 + 4 * math.sin(now / 9 + number) + (hung_s / 3 if number == 0 else 0)
    engine.leases = [
        lease(
            int(now) * 31 + 17 * each + number,
            0.4 + 1.3 * each + hung_s * (each % 2),
            640 + 911 * (each * 7 % 11),
            "" if each < 2 else f"decode-{each % 2}",
        )
        for each in range(max(int(wave), 1))
    ]
    engine.leases.append(lease(int(now) + 5000 + number, 41.0, 1200, state="lapsed", cause="released"))
    died = DIES_S <= now < RETURNS_S
    engine.consumers = [
        consumer("decode-0", "active", 0.4 + now % 5, engine.leases),
        consumer("decode-1", "dead" if died else "active", hung_s or 1.1, engine.leases),
    ]
    engine.counters = {
        "grants_total": 1000 + (9 + 4 * number) * now,
        'lease_ends_total{cause="released"}': 990 + (9 + 4 * number) * now,
        'renewals_total{direction="received"}': now,
    }
    engine.usage = min(0.3 + len(engine.leases) / 30, 1.0)
    engine.draining = number == 1 and now >= RETURNS_S
    engine.uptime_s = 5400 + now


def _consumer(engine: CannedEngine, number: int, now: float) -> None:
    anew = number == 1 and now >= RETURNS_S
    began = RETURNS_S if anew else 0.0
    engine.producers = [
        ProducerEntry(0, f"{each + 1:016x}", f"prefill-{each}:5600", "open", 2 + each, 0.3 + each) for each in range(2)
    ]
    engine.counters = {
        'fence_checks_total{verdict="intact"}': 12 * (now - began),
        'fence_checks_total{verdict="revoked"}': 0 if anew or number == 0 else max(0, int(now - HANGS_S) // 5),
        'wasted_prefill_tokens_total{reason="revoked"}': 0
        if anew or number == 0
        else 900 * max(0, int(now - HANGS_S) // 5),
        'renewals_total{direction="sent"}': now - began,
    }
    engine.usage = 0.55 + 0.2 * math.sin(now / 7 + number)
    engine.uptime_s = 5200 + now - 5200 * anew - began
