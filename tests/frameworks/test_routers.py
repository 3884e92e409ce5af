"""Routers run before fake engines, and the page has what was seen of leases and of decode engines that fail.

The rows of docs/operate/neighbours.md that say *tested* are those of `SEEN`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from docs.made.pages import DOCS
from kvlease.protocol import LeaseRef
from tests.frameworks.routers import (
    APIS,
    KVLEASE,
    SMG,
    SMG_UNLABELLED,
    TOY,
    VLLM_ROUTER,
    WRITTEN_BY_CLIENT,
    OtherRouter,
    Outcome,
    Router,
    Scene,
    aborts,
    dies,
    gateway,
    outcome_of,
    refuses,
    scene,
    shuts_down,
)

PAGE = DOCS / "operate" / "neighbours.md"


class Relayed(NamedTuple):
    """The params that get through."""

    offer: str
    """Those that P offers, to D."""
    written_by_client: str
    """Those that a client writes, to P and D."""


class Failures(NamedTuple):
    """The ends of requests whose decode engine fails before their first token."""

    dead: Outcome
    refusing: Outcome
    """It answers 503, and the same where it answers 500."""
    aborting: Outcome
    """It answers 200 with `finish_reason: "abort"`, and no token."""


def lost(dead: str, refusing: str) -> Failures:
    """The failures of a router that knows no other decode engine."""
    return Failures(
        Outcome(dead, prefilled_again=False, held=True),
        Outcome(refusing, prefilled_again=False, held=False),
        Outcome("200, without a token", prefilled_again=False, held=True),
    )


SEEN: list[tuple[Router, Relayed, Failures | None]] = [
    (
        KVLEASE,
        Relayed("whole", "overwritten"),
        Failures(*[Outcome(None, prefilled_again=False, held=False)] * 3),
    ),
    (VLLM_ROUTER, Relayed("whole", "overwritten"), lost("500 in plain text", "D's answer")),
    (TOY, Relayed("whole", "overwritten"), lost("200, and nothing", "200, and nothing")),
    (
        SMG,
        Relayed("whole", "overwritten"),
        Failures(
            Outcome(None, prefilled_again=True, held=True),
            Outcome(None, prefilled_again=True, held=False),
            Outcome("200, without a token", prefilled_again=False, held=True),
        ),
    ),
    (SMG_UNLABELLED, Relayed("not at all: D computes the prompt as well", "passed on to P and D"), None),
]


@pytest.mark.neighbours
@pytest.mark.parametrize(("router", "relayed", "failures"), SEEN, ids=lambda value: getattr(value, "name", ""))
def test_what_a_router_makes_of_leases_and_of_failures(
    router: Router, relayed: Relayed, failures: Failures | None
) -> None:
    async def look() -> tuple[Relayed, Failures | None]:
        async with scene(router) as ready:
            first = await _relayed(ready, router.apis)
            return first, (None if failures is None else await _failures(ready))

    assert asyncio.run(look()) == (relayed, failures)


async def _relayed(ready: Scene, apis: Sequence[str]) -> Relayed:
    (await ready.ask(kv_transfer_params=WRITTEN_BY_CLIENT)).raise_for_status()
    seen = [params for engine in (ready.producer, *ready.decoders) for params in ready.transfer_params(engine)]
    client = "passed on to P and D" if WRITTEN_BY_CLIENT in seen else "overwritten"
    offers, computed = await _offers(ready, apis)
    # Each is read, or computed again by D.
    assert (len(offers), computed) in ((2 * len(apis), 0), (0, 2 * len(apis)))
    for offer in offers:
        # The fake producer names its blocks by the lease's token: all of it is from one offer.
        assert f"{LeaseRef.from_params(offer['kv_lease']).token:016x}" == offer["remote_request_id"]
        assert offer["remote_port"] == int(ready.producer.url.rpartition(":")[2])
    return Relayed("whole" if offers else "not at all: D computes the prompt as well", client)


async def _offers(ready: Scene, apis: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """The offers that D reads, of each API with a stream and without, and the number of prompts that it computes."""
    for engine in ready.decoders:
        engine.seen.clear()
    books = [engine.books for engine in ready.decoders]
    before = sum(each.prefills.total for each in books)
    for path in apis:
        for stream in (False, True):
            (await ready.post(path, {**APIS[path], "stream": stream})).raise_for_status()
    seen = [params for engine in ready.decoders for params in ready.transfer_params(engine)]
    return [params for params in seen if "kv_lease" in params], sum(each.prefills.total for each in books) - before


async def _failures(ready: Scene) -> Failures:
    first, second = ready.decoders
    refused = await outcome_of(ready, first, refuses)
    assert await outcome_of(ready, first, shuts_down) == refused
    # Whoever takes the second one for an engine that ends goes on to the first one, which dies.
    aborted = await outcome_of(ready, second, aborts)
    return Failures(await outcome_of(ready, first, dies), refused, aborted)


SENT = {
    "authorization": "Bearer a client's",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-request-id": "a-request",
}


@pytest.mark.neighbours
@pytest.mark.parametrize("router", [VLLM_ROUTER, SMG], ids=lambda router: router.package)
def test_a_gateway_stands_before_kvleases_router(router: OtherRouter) -> None:
    """It takes it for one engine. Headers reach P and D, streams the client, and a D may fail behind all of it."""

    async def look() -> None:
        async with scene(KVLEASE) as behind, gateway(router, behind) as ready:
            for engine in (ready.producer, *ready.decoders):
                engine.seen.clear()
            streamed = await ready.ask(headers=SENT, stream=True)
            assert streamed.text.rstrip().endswith("data: [DONE]")
            for engines in ([ready.producer], ready.decoders):
                ((_, headers, _),) = [seen for engine in engines for seen in engine.seen]
                assert {name: headers.get(name) for name in SENT} == SENT
            assert await outcome_of(ready, ready.decoders[0], refuses) == Outcome(
                None, prefilled_again=False, held=False
            )

    asyncio.run(look())


@pytest.mark.parametrize(("router", "relayed", "failures"), SEEN, ids=lambda value: getattr(value, "name", ""))
def test_the_page_has_what_was_seen(router: Router, relayed: Relayed, failures: Failures | None) -> None:
    rows = [f"| {router.name} | {relayed.offer} | {relayed.written_by_client} | tested |"]
    if failures is not None:
        rows.append(f"| {router.name} | {' | '.join(map(str, failures))} | tested |")
    page = PAGE.read_text()
    assert [row for row in rows if row not in page] == []
