"""The client of an engine's routes: what it asks, and what it makes of answers and of none."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from kvlease.admin import client
from kvlease.admin.answers import Drain
from kvlease.admin.client import AdminClient, Declined, Unanswered, open_http

T = TypeVar("T")
URL = "http://prefill-0:8000/"


def ask(question: Callable[[AdminClient], Awaitable[T]], answer: Callable[[httpx.Request], httpx.Response]) -> T:
    """Asks an engine that answers so."""

    async def asked() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await question(AdminClient(URL, http))

    return asyncio.run(asked())


def answering(
    body: Any, status: int = 200, asked: list[str] | None = None
) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(f"{request.method} {request.url}")
        return httpx.Response(status, content=body if isinstance(body, str) else json.dumps(body))

    return answer


LEASE = {
    "rank": 0,
    "token": "a1b2c3d4",
    "request_id": "cmpl-1",
    "state": "claimed",
    "age_s": 1.2,
    "remaining_s": 18.5,
    "tokens": 190,
    "blocks": 12,
    "bytes": 49152,
    "consumers": [{"incarnation": "0" * 16, "engine_id": "decode-0"}],
    "cause": None,
}


def test_leases_are_asked_for_by_filter_and_page() -> None:
    asked: list[str] = []
    page = ask(
        lambda client: client.leases(5, "next-one", state="claimed"),
        answering({"leases": [LEASE], "total": 7, "next": None}, asked=asked),
    )
    assert asked == ["GET http://prefill-0:8000/v1/kvlease/leases?limit=5&cursor=next-one&state=claimed"]
    assert page.leases[0].consumers[0].engine_id == "decode-0"
    assert (page.total, page.next) == (7, None)


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (lambda client: client.drain(60), "POST http://prefill-0:8000/v1/kvlease/drain?wait=60"),
        (lambda client: client.draining(), "GET http://prefill-0:8000/v1/kvlease/drain"),
        (lambda client: client.undrain(), "DELETE http://prefill-0:8000/v1/kvlease/drain"),
    ],
)
@pytest.mark.parametrize("status", [200, 202])
def test_a_drain_that_is_not_over_is_an_answer(
    question: Callable[[AdminClient], Awaitable[Drain]], line: str, status: int
) -> None:
    asked: list[str] = []
    drain = ask(question, answering({"draining": True, "left": 3}, status, asked))
    assert drain == Drain(draining=True, left=3)
    assert asked == [line]


def test_a_lease_is_released_by_its_token() -> None:
    asked: list[str] = []
    assert ask(lambda client: client.release("a1b2c3d4"), answering({"released": True}, asked=asked))
    assert asked == ["POST http://prefill-0:8000/v1/kvlease/leases/a1b2c3d4/release"]


def test_an_error_keeps_the_engines_own_words() -> None:
    body = {"error": {"message": "2 leases begin with a1b2c3d4", "type": "Conflict", "code": 409}}
    with pytest.raises(Declined, match="2 leases begin with a1b2c3d4") as caught:
        ask(lambda client: client.release("a1b2c3d4"), answering(body, 409))
    assert caught.value.status == 409
    assert not caught.value.is_missing
    assert not caught.value.is_forbidden


@pytest.mark.parametrize(("status", "missing", "forbidden"), [(404, True, False), (401, False, True)])
def test_what_is_missing_and_what_is_forbidden_are_told_apart(status: int, missing: bool, forbidden: bool) -> None:
    with pytest.raises(Declined) as caught:
        ask(lambda client: client.health(), answering("<html>no</html>", status))
    assert (caught.value.is_missing, caught.value.is_forbidden) == (missing, forbidden)


def test_an_answer_of_somebody_else_is_none() -> None:
    with pytest.raises(Declined, match="somebody else"):
        ask(lambda client: client.health(), answering("<html>hello</html>"))


def test_a_redirect_is_not_followed() -> None:
    """The key is for the engine that was named."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(302, headers={"Location": "http://elsewhere/"})

    async def asked() -> None:
        async with open_http("secret", transport=httpx.MockTransport(answer)) as http:
            with pytest.raises(Declined):
                await AdminClient(URL, http).metrics_page()

    asyncio.run(asked())
    assert seen == ["prefill-0"]


def test_the_key_is_sent_as_a_bearer_token() -> None:
    assert open_http("secret").headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in open_http().headers


def test_nobody_there_is_told_in_the_systems_words() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

        async def asked() -> str:
            async with open_http() as http:
                return await AdminClient(f"http://127.0.0.1:{port}", http).metrics_page()

        with pytest.raises(Unanswered, match=r"^connection refused$"):
            asyncio.run(asked())


def test_a_slow_engine_is_given_up() -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(Unanswered, match="no answer in time"):
        ask(lambda client: client.sessions(), late)


class Endless(httpx.AsyncByteStream):
    """An answer that never ends, with a pause before each part."""

    def __init__(self, part: bytes, pause_s: float) -> None:
        self._part, self._pause_s = part, pause_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self._pause_s)
            yield self._part


@pytest.mark.parametrize(
    ("part", "pause_s", "said"), [(b"#" * 1000, 0.0, "so no engine's"), (b"#", 0.01, "no answer in time")]
)
def test_an_answer_without_end_is_given_up(
    part: bytes, pause_s: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 100_000)
    monkeypatch.setattr(client, "WHOLE_S", 0.1)
    monkeypatch.setattr(client, "TIMEOUT_S", 0.0)
    with pytest.raises(Unanswered, match=said):
        ask(AdminClient.metrics_page, lambda _: httpx.Response(200, stream=Endless(part, pause_s)))


def test_an_answer_may_be_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"up 1\n"))
    assert ask(AdminClient.metrics_page, lambda _: packed) == "up 1\n"
    monkeypatch.setattr(client, "MOST_BYTES", 1_000_000)
    large = httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(bytes(2_000_000), 1))
    with pytest.raises(Unanswered, match="more than 1 MB"):
        ask(AdminClient.metrics_page, lambda _: large)
