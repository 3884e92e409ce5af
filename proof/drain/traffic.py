"""Clients that never pause, and their router: P is asked first, and D gets whatever P said, as real routers do.

Nobody tells the router that P is about to stop. Where P refuses a connection, or gives no answer, it sends D the prompt
alone. What P says without an offer it sends on as well: D computes that prompt. What fails on D is lost: it is not sent
a second time.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from proof.drain.outcome import RequestEnd, RequestFate
from proof.realengines.router import PrefillError, Reference, Router, completion

ANSWER_TOKENS = 24
PROMPT_CLIENTS = 4
"""The clients whose router sends P's reference to D at once."""
LATE_CLIENTS = 3
"""The clients whose router takes its time between P and D."""
LATE_S = (0.5, 5.0)
"""The shortest and the longest of those times."""
_EVENT = b"data: {"

Tokens = tuple[int, ...]


@dataclass
class Streamed:
    """An answer as it came, piece by piece."""

    tokens: list[int] = field(default_factory=list)
    first_at: float | None = None
    error: str = ""

    def judged(self, right: Tokens) -> tuple[RequestFate, str]:
        """Returns what became of the request, and why it is not right."""
        if self.error or len(self.tokens) != len(right):
            return "lost", self.error or f"{len(self.tokens)} tokens and not {len(right)}"
        if tuple(self.tokens) != right:
            return "wrong", f"{self.tokens} and not {list(right)}"
        return "right", ""


class SteadyTraffic:
    """All clients of one stretch, and what became of their requests: `ends`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        router: Router,
        rights: dict[str, Tokens],
        seed: int,
        late_s: tuple[float, float] = LATE_S,
    ) -> None:
        """`rights`: the right answers by prompt. `late_s`: the shortest and the longest time between P and D."""
        self.ends: list[RequestEnd] = []
        self._http = http
        self._router = router
        self._rights = rights
        self._seed = seed
        self._late_s = late_s
        self._over = False

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Lets the clients ask while it lasts; when it is left well, each still gets the answer that it waits for."""
        clients = [asyncio.create_task(self._client(number)) for number in range(PROMPT_CLIENTS + LATE_CLIENTS)]
        try:
            yield
            self._over = True
            await asyncio.gather(*clients)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, number: int) -> None:
        draw = random.Random(f"{self._seed} {number}")
        prompts: Sequence[str] = list(self._rights)
        while not self._over:
            wait_s = draw.uniform(*self._late_s) if number >= PROMPT_CLIENTS else 0.0
            self.ends.append(await self.request(draw.choice(prompts), wait_s))

    async def request(self, prompt: str, wait_s: float = 0.0) -> RequestEnd:
        """Has one prompt answered; its router waits for `wait_s` between P and D."""
        began_at, offered_at = time.monotonic(), None
        reference = await self._prefill(prompt)
        if reference is not None:
            if reference.kv_transfer_params.get("do_remote_prefill"):
                offered_at = time.monotonic()
            await asyncio.sleep(wait_s)
        streamed = await self._decode(prompt, reference)
        fate, said = streamed.judged(self._rights[prompt])
        return RequestEnd(
            fate=fate,
            began_at=began_at,
            offered_at=offered_at,
            read_at=streamed.first_at,
            ended_at=time.monotonic(),
            late=wait_s > 0,
            said=said,
        )

    async def _prefill(self, prompt: str) -> Reference | None:
        """Returns what P said; None where it is gone, or goes meanwhile."""
        try:
            return await self._router.prefill(prompt)
        except (httpx.TransportError, PrefillError):
            return None

    async def _decode(self, prompt: str, reference: Reference | None) -> Streamed:
        payload = completion(prompt, ANSWER_TOKENS) | {"stream": True}
        if reference is not None:
            payload["kv_transfer_params"] = dict(reference.kv_transfer_params)
        streamed = Streamed()
        try:
            await self._stream(payload, streamed)
        except httpx.TransportError as error:
            streamed.error = repr(error)
        return streamed

    async def _stream(self, payload: dict[str, Any], streamed: Streamed) -> None:
        async with self._http.stream("POST", f"{self._router.decode_url}/v1/completions", json=payload) as response:
            if response.status_code != httpx.codes.OK:
                text = (await response.aread()).decode(errors="replace")
                streamed.error = f"HTTP {response.status_code}: {text[:200]}"
                return
            # Its lines are parted as bytes: an answer's text may have what else parts lines in Unicode.
            rest = b""
            async for piece in response.aiter_raw():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.startswith(_EVENT):
                        _take(json.loads(line.removeprefix(b"data: ")), streamed)


def _take(event: dict[str, Any], streamed: Streamed) -> None:
    if "choices" not in event:
        streamed.error = f"the stream ended with {event}"
        return
    for choice in event["choices"]:
        streamed.tokens += choice.get("token_ids") or ()
    if streamed.tokens and streamed.first_at is None:
        streamed.first_at = time.monotonic()
