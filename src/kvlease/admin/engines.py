"""One or several data-parallel engines as one: a question goes to all of them, and their answers become one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from kvlease.admin.answers import (
    ConsumerEntry,
    Drain,
    EngineHealth,
    ErrorDetail,
    Health,
    ProducerEntry,
    Released,
    Sessions,
)
from kvlease.admin.core import Refused
from kvlease.admin.questions import (
    DrainOrder,
    DrainQuestion,
    HealthQuestion,
    LeasesFound,
    LeasesQuestion,
    Questions,
    RankAnswer,
    ReleaseOrder,
    SessionsQuestion,
    TokenQuestion,
    TokensFound,
)
from kvlease.admin.reading import as_cursor

T = TypeVar("T")
Ask = Callable[[bytes], Awaitable[Sequence[bytes]]]
"""Hands a question to every engine behind a door, and returns the answer of each. It raises `Refused`."""


class RankLeases(msgspec.Struct, frozen=True):
    """A page of leases, whose entries are JSON already (`answers.LeasePage`)."""

    leases: list[msgspec.Raw]
    total: int
    next: str | None


class Engines:
    """The engines behind one door."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def health(self) -> Health:
        """Returns the state of each."""
        return Health([health for _, health in await self._all(HealthQuestion(), EngineHealth)])

    async def leases(self, question: LeasesQuestion) -> RankLeases:
        """Returns the page that is asked for: the leases of one rank come after those of the ranks before."""
        page: list[msgspec.Raw] = []
        total, cursor, more = 0, "", False
        for rank, found in await self._all(question, LeasesFound):
            total += found.total
            room = question.limit - len(page)
            more = more or found.more or len(found.leases) > room
            if taken := found.numbers[:room]:
                page += found.leases[:room]
                cursor = as_cursor(rank, taken[-1])
        return RankLeases(page, total, cursor if more and cursor else None)

    async def sessions(self) -> Sessions:
        """Returns the sessions of all."""
        consumers: list[ConsumerEntry] = []
        producers: list[ProducerEntry] = []
        for _, found in await self._all(SessionsQuestion(), Sessions):
            consumers += found.consumers
            producers += found.producers
        return Sessions(consumers, producers)

    async def release(self, prefix: str) -> Released:
        """Ends the lease whose token begins so, on whichever engine it is."""
        tokens = [token for _, found in await self._all(TokenQuestion(prefix), TokensFound) for token in found.tokens]
        if not tokens:
            raise Refused(404, f"no lease has a token that begins with {prefix}; it may have ended")
        if len(tokens) > 1:
            raise Refused(
                409, f"several leases have tokens that begin with {prefix}: give more digits (full_tokens=true)"
            )
        answers = await self._answers(ReleaseOrder(tokens[0]))
        # Every other engine says that it knows no such lease.
        best = min(answers, key=lambda answer: (answer.status == 404, answer.status))
        return _read(best, Released)

    async def drain(self, draining: bool | None = None) -> Drain:
        """Returns how far the drain is; True begins one, False undoes it."""
        question = DrainQuestion() if draining is None else DrainOrder(draining)
        states = [state for _, state in await self._all(question, Drain)]
        return Drain(all(state.draining for state in states), sum(state.left for state in states))

    async def _all(self, question: Questions, kind: type[T]) -> list[tuple[int, T]]:
        return [(answer.rank, _read(answer, kind)) for answer in await self._answers(question)]

    async def _answers(self, question: Questions) -> list[RankAnswer]:
        answers = await self._ask(msgspec.json.encode(question))
        found = [msgspec.json.decode(answer, type=RankAnswer) for answer in answers]
        return sorted(found, key=lambda answer: answer.rank)


def _read(answer: RankAnswer, kind: type[T]) -> T:
    if answer.status < 400:
        return msgspec.json.decode(answer.answer, type=kind)
    raise Refused(answer.status, msgspec.json.decode(answer.answer, type=ErrorDetail).message)
