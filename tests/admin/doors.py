"""Doors to engines without an engine around them: the listener's application, asked without a network."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import httpx
import msgspec

from kvlease.admin.core import AdminCore
from kvlease.admin.health import EngineProfile
from kvlease.admin.listener import listener_app
from kvlease.admin.questions import Question, RankAnswer
from kvlease.protocol import LeaseRef
from tests.admin.engines import BLOCK_BYTES, CONFIG, PLACE, PROMPT, TURN_S, FiguredEngine, Pair

HEX = 16


class PromptCore(AdminCore):
    """An `AdminCore` whose agent takes its turns as soon as it is asked."""

    def __init__(self, pair: Pair, engine: FiguredEngine, rank: int = 0) -> None:
        profile = EngineProfile(rank, "prefill-0", CONFIG, BLOCK_BYTES, lambda: 100)
        super().__init__(engine.agent, engine.producer, engine.figures.unheard, profile, clock=engine.clock)
        self.pair = pair

    def answer(self, payload: bytes) -> "Future[bytes]":
        out = super().answer(payload)
        for _ in range(10):
            if not out.done():
                self.pair.run(TURN_S)
        return out

    def ask(self, question: Question) -> tuple[int, Any]:
        """The status and the body of the answer to a question."""
        return decoded(self.answer(msgspec.json.encode(question)).result(0))


def decoded(answer: bytes) -> tuple[int, Any]:
    found = msgspec.json.decode(answer, type=RankAnswer)
    return found.status, msgspec.json.decode(found.answer)


class Door:
    """P and D, and the door to P."""

    def __init__(self, token: str | None = None) -> None:
        self.pair = Pair()
        self.core = PromptCore(self.pair, self.pair.p)
        self.app: Any = listener_app(self.core, token, lambda: b"page\n")

    @property
    def p(self) -> FiguredEngine:
        return self.pair.p

    def prefill(self, *names: str, blocks: int = 2) -> Sequence[LeaseRef]:
        """Leases of P that its agent knows."""
        refs = [self.p.prefill(name, blocks) for name in names]
        self.pair.run(TURN_S)
        return refs

    def claim(self, name: str, ref: LeaseRef) -> None:
        """D wants the lease, and P knows."""
        self.pair.d.consumer.take_on(name, PROMPT, ref, PLACE)
        self.pair.run(0.5)

    def read(self, name: str) -> None:
        """D has read, and P knows."""
        self.pair.d.consumer.release(name)
        self.pair.run(0.5)

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1:9410", headers=headers
        )

    async def call(self, method: str, path: str, **headers: str) -> tuple[int, Any]:
        """The status and the body of the answer of a route under /v1/kvlease."""
        async with self.client(**headers) as client:
            response = await client.request(method, f"/v1/kvlease{path}")
        return response.status_code, msgspec.json.decode(response.content)


def short(ref: LeaseRef) -> str:
    return whole(ref)[:8]


def whole(ref: LeaseRef) -> str:
    return f"{ref.token:016x}"
