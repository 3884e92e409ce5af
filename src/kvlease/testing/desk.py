"""A lease agent's desk without an agent."""

from typing import Any

from kvlease.protocol import Endpoint, LeaseRef
from kvlease.protocol.effects import LeaseNews


class ListedDesk:
    """A `LeaseDesk`: what the engine says is kept until somebody carries it over, and so is what it hears.

    An agent and its engine meet nowhere else. `said` has a method's name and its arguments for each call.
    """

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.died_at: float | None = None
        self.said: list[tuple[Any, ...]] = []
        self.news: list[LeaseNews] = []
        self.lost: list[str] = []

    def grant(self, token: int) -> None:
        self.said.append(("grant", token))

    def extend(self, token: int) -> None:
        self.said.append(("extend", token))

    def release(self, token: int) -> None:
        self.said.append(("release", token))

    def abort(self, token: int) -> None:
        self.said.append(("abort", token))

    def cleared(self, token: int) -> None:
        self.said.append(("cleared", token))

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        self.said.append(("track", holder, ref, endpoint, siblings))

    def untrack(self, holder: str) -> None:
        self.said.append(("untrack", holder))

    def progress(self) -> bool:
        return bool(self.news or self.lost)

    def step_ended(self) -> None: ...

    @property
    def has_news(self) -> bool:
        return bool(self.news)

    def take_news(self) -> list[LeaseNews]:
        news, self.news = self.news, []
        return news

    def take_lost(self) -> list[str]:
        lost, self.lost = self.lost, []
        return lost
