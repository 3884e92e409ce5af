"""Clients that never pause, and their router, with a function in the place of vLLM's engines."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from proof.drain.outcome import RequestEnd
from proof.drain.traffic import LATE_CLIENTS, PROMPT_CLIENTS, SteadyTraffic
from proof.realengines.router import Router

RIGHT = (1, 2, 3)
OFFER = {"do_remote_prefill": True, "kv_lease": {}}
DECLINED = {"do_remote_prefill": False, "remote_block_ids": []}

Bodies = list[dict[str, Any]]


def streamed(*events: dict[str, Any]) -> httpx.Response:
    lines = [f"data: {json.dumps(event)}" for event in events]
    return httpx.Response(200, stream=httpx.ByteStream("\n\n".join([*lines, "data: [DONE]", ""]).encode()))


def tokens(*ids: int) -> httpx.Response:
    # The text has what parts lines in Unicode, and not in HTTP.
    return streamed(*({"choices": [{"token_ids": [one], "text": "a\u2028b\x85c"}]} for one in ids))


def offering(params: dict[str, Any] | None) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(200, json={"kv_transfer_params": params, "choices": []})


def gone() -> httpx.Response:
    raise httpx.ConnectError("refused")


def answers(p: Callable[[], httpx.Response], d: Callable[[], httpx.Response]) -> tuple[RequestEnd, Bodies]:
    """Returns what became of one request, and what D was sent."""
    sent: Bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "p":
            return p()
        sent.append(json.loads(request.content))
        return d()

    async def ask() -> RequestEnd:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            traffic = SteadyTraffic(http, Router(http, "http://p", "http://d"), {"a prompt": RIGHT}, seed=0)
            return await traffic.request("a prompt")

    return asyncio.run(ask()), sent


def test_an_offer_is_sent_on_and_read() -> None:
    end, (sent,) = answers(offering(OFFER), lambda: tokens(*RIGHT))
    assert (end.fate, sent["kv_transfer_params"]) == ("right", OFFER)
    assert end.offered_at is not None
    assert end.read_at is not None
    assert end.began_at <= end.offered_at <= end.read_at <= end.ended_at
    assert end.out_at(end.offered_at)
    assert not end.out_at(end.read_at)


def test_what_p_says_without_an_offer_is_sent_on_and_holds_nothing() -> None:
    end, (sent,) = answers(offering(DECLINED), lambda: tokens(*RIGHT))
    assert (end.fate, end.offered_at, sent["kv_transfer_params"]) == ("right", None, DECLINED)


def test_d_gets_the_prompt_alone_where_p_is_gone_or_breaks_off() -> None:
    for p in (gone, offering(None), lambda: httpx.Response(500, text="it ends")):
        end, (sent,) = answers(p, lambda: tokens(*RIGHT))
        assert (end.fate, end.offered_at) == ("right", None)
        assert "kv_transfer_params" not in sent
        assert sent["prompt"] == "a prompt"


def test_an_answer_that_is_none_is_lost_and_not_asked_for_again() -> None:
    for d in (
        gone,
        lambda: httpx.Response(500, text="could not be read"),
        lambda: tokens(1, 2),
        lambda: streamed({"choices": [{"token_ids": [1]}]}, {"error": {"message": "it broke"}}),
    ):
        end, sent = answers(offering(OFFER), d)
        assert (end.fate, len(sent)) == ("lost", 1)
        assert end.said


def test_other_tokens_are_wrong() -> None:
    end, _ = answers(offering(OFFER), lambda: tokens(1, 2, 4))
    assert (end.fate, end.said) == ("wrong", "[1, 2, 4] and not [1, 2, 3]")


def test_clients_go_on_until_it_is_over_and_wait_for_their_last_answers() -> None:
    async def play() -> list[RequestEnd]:
        def answer(request: httpx.Request) -> httpx.Response:
            return offering(DECLINED)() if request.url.host == "p" else tokens(*RIGHT)

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            router = Router(http, "http://p", "http://d")
            traffic = SteadyTraffic(http, router, {"a": RIGHT, "b": RIGHT}, seed=0, late_s=(0.01, 0.02))
            async with asyncio.timeout(10), traffic.going_on():
                while len(traffic.ends) <= PROMPT_CLIENTS + LATE_CLIENTS:
                    await asyncio.sleep(0.001)
            return traffic.ends

    ends = asyncio.run(play())
    assert {end.fate for end in ends} == {"right"}
    assert sum(end.late for end in ends) >= LATE_CLIENTS
