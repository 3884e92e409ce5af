"""The fake engines answer as vLLM does, hold leases as kvlease does, and fail as they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from kvlease.protocol import LeaseRef
from kvlease.testing.http_engines import Behaviour, FakeEngine, answer_to
from kvlease.testing.http_engines.behaviour import Fault
from kvlease.testing.http_engines.engine import fake_engines
from kvlease.testing.http_engines.toy_model import MODEL, ids_of, rendered

PROMPT = "the prompt"
CHAT = [{"role": "user", "content": PROMPT}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": PROMPT, "max_tokens": 5},
    "/v1/chat/completions": {"messages": CHAT, "max_completion_tokens": 5},
    "/v1/responses": {"input": PROMPT, "max_output_tokens": 5},
}
WHERE: dict[str, tuple[Any, ...]] = {
    "/v1/completions": ("choices", 0, "text"),
    "/v1/chat/completions": ("choices", 0, "message", "content"),
    "/v1/responses": ("output", 0, "content", 0, "text"),
}
ASK = {"do_remote_decode": True, "do_remote_prefill": False}


def deep(value: Any, path: tuple[Any, ...]) -> Any:
    for each in path:
        value = value[each]
    return value


def right_answer(path: str, tokens: int = 5) -> str:
    return answer_to(rendered(CHAT) if "chat" in path else PROMPT, tokens)


def events_of(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else msgspec.json.decode(line) for line in lines]


def said(events: list[Any]) -> str:
    parts = []
    for event in events:
        if event == "[DONE]":
            continue
        parts.append(event.get("delta", "") if event.get("type") == "response.output_text.delta" else "")
        parts += [each.get("text") or each.get("delta", {}).get("content", "") for each in event.get("choices", ())]
    return "".join(parts)


@asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[tuple[FakeEngine, FakeEngine, FakeEngine, httpx.AsyncClient]]:
    async with fake_engines(1, 2, **options) as ((p,), (d1, d2)), httpx.AsyncClient() as client:
        yield p, d1, d2, client


async def offer_of(client: httpx.AsyncClient, p: FakeEngine, prompt: str = PROMPT) -> dict[str, Any]:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 1, "kv_transfer_params": ASK}
    answer = await client.post(f"{p.url}/v1/completions", json=body)
    found: dict[str, Any] = answer.json()["kv_transfer_params"]
    return found


async def decode(client: httpx.AsyncClient, d: FakeEngine, params: dict[str, Any], **more: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 5, "kv_transfer_params": params} | more
    return await client.post(f"{d.url}/v1/completions", json=body)


async def read_on(client: httpx.AsyncClient, url: str, body: dict[str, Any], parts: list[str]) -> None:
    async with client.stream("POST", url, json=body) as answer:
        async for part in answer.aiter_text():
            parts += [part]


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scene())


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_is_right_whole_and_as_a_stream(path: str) -> None:
    async def scene() -> None:
        async with pair() as (_, d, _, client):
            whole = await client.post(d.url + path, json={"model": MODEL} | BODIES[path])
            assert deep(whole.json(), WHERE[path]) == right_answer(path)
            streamed = await client.post(d.url + path, json=BODIES[path] | {"stream": True})
            assert said(events_of(streamed.text)) == right_answer(path)
            assert streamed.headers["content-type"].startswith("text/event-stream")

    play(scene)


def test_another_engine_goes_on_where_a_stream_was_cut() -> None:
    async def scene() -> None:
        async with pair() as (_, d1, d2, client):
            d1.behaviour = Behaviour(Fault.CUT_STREAM, after_chunks=3)
            body = {"prompt": PROMPT, "max_tokens": 8, "stream": True, "return_token_ids": True}
            parts: list[str] = []
            with pytest.raises(httpx.RemoteProtocolError):
                await read_on(client, f"{d1.url}/v1/completions", body, parts)
            got = "".join(parts)
            chunks = [event["choices"][0] for event in events_of(got)]
            ids = chunks[0]["prompt_token_ids"] + [token for each in chunks for token in each["token_ids"]]
            rest = await client.post(f"{d2.url}/v1/completions", json={"prompt": ids, "max_tokens": 5})
            assert said(events_of(got)) + rest.json()["choices"][0]["text"] == answer_to(PROMPT, 8)

    play(scene)


def test_a_lease_is_read_once_and_only_for_its_prompt() -> None:
    async def scene() -> None:
        async with pair() as (p, d1, d2, client):
            offer = await offer_of(client, p)
            assert LeaseRef.from_params(offer["kv_lease"]).prompt.tokens == len(ids_of(PROMPT))
            assert (await decode(client, d1, offer, prompt="another")).json()["choices"][0]["text"] == answer_to(
                "another", 5
            )
            assert d1.books.reads == {"recomputed": 1}
            assert (await decode(client, d2, offer)).json()["choices"][0]["text"] == answer_to(PROMPT, 5)
            assert d2.books.reads == {"read": 1}
            assert len(p.books.leases) == 0
            assert (await decode(client, d1, offer)).json()["choices"][0]["text"] == answer_to(PROMPT, 5)
            assert d1.books.reads == {"recomputed": 2}, "the lease was read already"
            assert p.books.prefills.total == 1
            assert d1.books.prefills.total == 2

    play(scene)


def test_stock_reads_what_is_another_prompts_by_now_and_answers_wrongly() -> None:
    async def scene() -> None:
        async with pair(leased=False) as (p, d1, d2, client):
            offer = await offer_of(client, p)
            assert "kv_lease" not in offer
            assert (await decode(client, d1, offer, model="unknown")).status_code == 404
            assert (await decode(client, d2, offer)).json()["choices"][0]["text"] != answer_to(PROMPT, 5)
            assert d2.books.reads == {"unfenced": 1}

    play(scene)


@pytest.mark.parametrize(("more", "ends"), [({}, "released"), ({"kv_lease_on_reject": "return"}, "returned")])
def test_a_refused_request_releases_its_lease_or_returns_it(more: dict[str, str], ends: str) -> None:
    async def scene() -> None:
        async with pair() as (p, d1, d2, client):
            offer = await offer_of(client, p) | more
            refused = await decode(client, d1, offer, model="unknown")
            assert refused.status_code == 404
            assert refused.json()["error"]["type"] == "NotFoundError"
            assert p.books.leases.ended[ends] == 1
            await decode(client, d2, offer)
            assert d2.books.reads == {"recomputed" if ends == "released" else "read": 1}

    play(scene)


def test_a_lease_comes_back_from_an_engine_that_dies_while_it_reads() -> None:
    async def scene() -> None:
        async with pair() as (p, d1, d2, client):
            offer = await offer_of(client, p)
            d1.behaviour = Behaviour(Fault.DIE)
            with pytest.raises(httpx.HTTPError):
                await decode(client, d1, offer)
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{d1.url}/health")
            await decode(client, d2, offer)
            assert d2.books.reads == {"read": 1}
            assert p.books.leases.ended["returned"] == 1

    play(scene)


def test_a_lease_that_nobody_reads_is_stranded_when_its_term_is_over_or_released_on_request() -> None:
    async def scene() -> None:
        async with pair(term_s=0.0) as (p, _, _, client):
            await offer_of(client, p)
            assert (await client.get(f"{p.url}/books")).json()["leases"]["stranded"] == 1
        async with pair() as (p, _, _, client):
            offer = await offer_of(client, p)
            released = await client.post(f"{p.url}/v1/kvlease/leases/{offer['kv_lease']['token']}/release")
            assert released.status_code == 200
            assert p.books.leases.ended == {"granted": 1, "released": 1}

    play(scene)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (Behaviour(Fault.STATUS, status=503, retry_after_s=2), 503),
        (Behaviour(Fault.STATUS, status=502), 502),
        (Behaviour(Fault.ABORT), 200),
        (Behaviour(Fault.GARBLED), 200),
        (Behaviour(Fault.CUT), None),
        (Behaviour(Fault.CUT_STREAM), None),
        (Behaviour(Fault.DIE), None),
    ],
    ids=lambda each: each.fault if isinstance(each, Behaviour) else "",
)
def test_a_fault_is_what_it_says(behaviour: Behaviour, status: int | None, stream: bool) -> None:
    async def scene() -> None:
        async with pair() as (_, d, _, client):
            d.behaviour = behaviour
            body = {"prompt": PROMPT, "max_tokens": 5, "stream": stream}
            if status is None:
                with pytest.raises(httpx.HTTPError):
                    await client.post(f"{d.url}/v1/completions", json=body)
                return
            answer = await client.post(f"{d.url}/v1/completions", json=body)
            assert answer.status_code == status
            assert answer.headers.get("retry-after") == ("2" if status == 503 else None)
            assert answer_to(PROMPT, 5) not in answer.text
            if behaviour.fault is Fault.ABORT:
                assert events_of(answer.text) == ["[DONE]"] if stream else '"finish_reason":"abort"' in answer.text

    play(scene)


def test_a_fault_lasts_as_many_requests_as_it_says_and_a_silent_engine_sees_its_client_go() -> None:
    async def scene() -> None:
        async with pair() as (_, d, _, client):
            await client.post(f"{d.url}/behaviour", content=msgspec.json.encode(Behaviour(Fault.HANG, times=1)))
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"{d.url}/v1/completions", json={"prompt": PROMPT}, timeout=0.05)
            while not d.books.calls["cancelled"]:
                await asyncio.sleep(0)
            assert (await client.post(f"{d.url}/v1/completions", json={"prompt": PROMPT})).status_code == 200
            assert d.books.running == 0

    play(scene)


def test_an_engine_says_its_load_its_model_and_its_health() -> None:
    async def scene() -> None:
        async with pair() as (p, _, _, client):
            await offer_of(client, p)
            assert "kvlease:active_leases{" in (await client.get(f"{p.url}/metrics")).text
            assert (await client.get(f"{p.url}/v1/models")).json()["data"][0]["id"] == MODEL
            ids = (await client.post(f"{p.url}/tokenize", json={"prompt": PROMPT})).json()["tokens"]
            assert (await client.post(f"{p.url}/detokenize", json={"tokens": ids})).json() == {"prompt": PROMPT}
            p.healthy = False
            assert (await client.get(f"{p.url}/health")).status_code == 503

    play(scene)


def test_a_consumer_finds_a_producer_that_was_started_again_at_its_port() -> None:
    async def scene() -> None:
        async with pair() as (p, d, _, client):
            await decode(client, d, await offer_of(client, p))
            await p.close()
            await p.open(port=int(p.url.rsplit(":", 1)[1]))
            await decode(client, d, await offer_of(client, p))
            assert d.books.reads == {"read": 2}

    play(scene)
