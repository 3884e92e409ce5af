"""Clients that never pause: each asks, reads its stream, and asks again. Every answer is compared by token ids."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from proof.failover.outcome import StreamEnd, StreamFate
from proof.realengines.router import completion

PATIENCE_S = 25.0
"""The time for which a client waits for the next byte; what is silent for longer has no answer."""
_PAUSE_S = 0.25
_DATA = b"data: "

RightTokens = tuple[int, ...]


@dataclass
class StreamSeen:
    """A stream as its client saw it."""

    status: int | None = None
    tokens: list[int] = field(default_factory=list)
    first_at: float | None = None
    finish: str | None = None
    said: str = ""
    told: bool = False
    """True: an event or a status said that it failed."""

    def judged(self, right: RightTokens) -> tuple[StreamFate, str]:
        """Returns what became of the request, and why it is not right."""
        if tuple(self.tokens) != right[: len(self.tokens)]:
            return "wrong", f"{self.tokens} and not {list(right)}"
        if len(self.tokens) == len(right) and not self.said:
            return "right", ""
        why = self.said or f"HTTP {self.status}, {len(self.tokens)} of {len(right)} tokens, finish {self.finish}"
        if not self.tokens:
            return "lost", why
        return ("broken-off" if self.told else "cut"), why

    def hear(self, line: bytes) -> None:
        """Takes one line of the stream."""
        if not line.startswith(_DATA) or line == b"data: [DONE]":
            return
        try:
            event: Any = json.loads(line.removeprefix(_DATA))
        except ValueError:
            self.said = f"an event that is no JSON: {line[:200]!r}"
            return
        if "choices" not in event:
            self.said, self.told = f"the stream said {event}", True
            return
        for choice in event["choices"]:
            self.tokens += choice.get("token_ids") or ()
            self.finish = choice.get("finish_reason") or self.finish
        if self.tokens and self.first_at is None:
            self.first_at = time.monotonic()


class EndlessStreams:
    """A number of clients of one router, and what became of their requests: `ends`."""

    def __init__(self, http: httpx.AsyncClient, url: str, rights: Mapping[str, RightTokens], clients: int) -> None:
        """`rights`: the right answers by prompt; each asks for as many tokens as its right answer has."""
        self.ends: list[StreamEnd] = []
        self._http = http
        self._url = url
        self._rights = rights
        self._prompts = itertools.cycle(rights)
        self._clients = clients
        self._over = False

    @property
    def answered(self) -> int:
        """The requests that have ended."""
        return len(self.ends)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Lets the clients ask while it lasts; when it is left well, each still gets the answer that it waits for."""
        clients = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        try:
            yield
            self._over = True
            await asyncio.gather(*clients)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self) -> None:
        while not self._over:
            end = await self.request(next(self._prompts))
            self.ends.append(end)
            if end.fate == "lost":
                # A client whose request fails at once tries again a little later, as people's do.
                await asyncio.sleep(_PAUSE_S)

    async def request(self, prompt: str) -> StreamEnd:
        """Has one prompt answered, and returns what became of it."""
        began_at, seen = time.monotonic(), StreamSeen()
        try:
            await self._stream(completion(prompt, len(self._rights[prompt])) | {"stream": True}, seen)
        except httpx.TransportError as error:
            seen.said = seen.said or repr(error)
        fate, said = seen.judged(self._rights[prompt])
        return StreamEnd(
            fate=fate,
            prompt_tokens=len(prompt),
            began_at=began_at,
            ended_at=time.monotonic(),
            first_at=seen.first_at,
            status=seen.status,
            said=said,
        )

    async def _stream(self, body: Mapping[str, Any], seen: StreamSeen) -> None:
        patience = httpx.Timeout(PATIENCE_S)
        url = f"{self._url}/v1/completions"
        async with self._http.stream("POST", url, json=dict(body), timeout=patience) as response:
            seen.status = response.status_code
            if response.status_code != httpx.codes.OK:
                text = (await response.aread()).decode(errors="replace")
                seen.said, seen.told = f"HTTP {response.status_code}: {text[:200]}", True
                return
            # Lines are parted as bytes: an answer's text may have what else parts lines in Unicode.
            rest = b""
            async for piece in response.aiter_raw():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    seen.hear(line)
