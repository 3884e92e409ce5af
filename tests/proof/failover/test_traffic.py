"""Clients that never pause, with a function in the router's place."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import httpx
import pytest

from proof.failover.outcome import StreamEnd
from proof.failover.traffic import EndlessStreams

RIGHT = (1, 2, 3)


class Pieces(httpx.AsyncByteStream):
    """A body that comes in pieces, and may be cut."""

    def __init__(self, pieces: Iterable[bytes], cut: bool = False) -> None:
        self._pieces = pieces
        self._cut = cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._cut:
            raise httpx.RemoteProtocolError("peer closed connection")


def event(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def tokens(*ids: int) -> list[bytes]:
    # The text has what parts lines in Unicode, and not in HTTP.
    return [event(choices=[{"token_ids": [one], "text": "a\u2028b\x85c"}]) for one in ids]


DONE = [b"data: [DONE]\n\n"]
ERROR = event(error={"message": "gone"})


def asked(answer: Callable[[httpx.Request], httpx.Response]) -> StreamEnd:
    async def ask() -> StreamEnd:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await EndlessStreams(http, "http://r", {"a prompt": RIGHT}, clients=1).request("a prompt")

    return asyncio.run(ask())


def streamed(*pieces: bytes, cut: bool = False) -> StreamEnd:
    return asked(lambda _: httpx.Response(200, stream=Pieces(pieces, cut)))


def halves(pieces: Iterable[bytes]) -> list[bytes]:
    whole = b"".join(pieces)
    return [whole[:30], whole[30:]]


@pytest.mark.parametrize(
    ("end", "fate"),
    [
        (streamed(*tokens(*RIGHT), *DONE), "right"),
        (streamed(*halves(tokens(*RIGHT)), *DONE), "right"),
        (streamed(*tokens(1, 2, 4), *DONE), "wrong"),
        (streamed(*tokens(1, 4), cut=True), "wrong"),
        (streamed(*tokens(*RIGHT, 4), *DONE), "wrong"),
        (streamed(*tokens(1, 2), ERROR), "broken-off"),
        (streamed(*tokens(1, 2), cut=True), "cut"),
        (streamed(*tokens(1, 2), *DONE), "cut"),
        (streamed(*tokens(1, 2)), "cut"),
        (streamed(*DONE), "lost"),
        (streamed(), "lost"),
        (streamed(ERROR), "lost"),
        (streamed(event(choices=[{"token_ids": [], "finish_reason": "abort"}]), *DONE), "lost"),
        (asked(lambda _: httpx.Response(500, text="no")), "lost"),
    ],
)
def test_a_stream_is_judged_by_its_tokens_and_its_end(end: StreamEnd, fate: str) -> None:
    assert end.fate == fate
    assert bool(end.said) == (fate != "right")
    assert (end.first_at is None) == (fate == "lost")


def test_a_router_that_is_gone_is_a_lost_request() -> None:
    def gone(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    end = asked(gone)
    assert (end.fate, end.status) == ("lost", None)
    assert "refused" in end.said


def test_every_client_gets_the_answer_that_it_waits_for() -> None:
    async def scene() -> list[StreamEnd]:
        async def answer(_: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0)
            return httpx.Response(200, stream=Pieces([*tokens(*RIGHT), *DONE]))

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            streams = EndlessStreams(http, "http://r", {"a": RIGHT, "b": RIGHT}, clients=3)
            async with streams.going_on():
                while streams.answered < 10:
                    await asyncio.sleep(0)
            return streams.ends

    ends = asyncio.run(scene())
    assert {end.fate for end in ends} == {"right"}
    assert len(ends) >= 10
