"""Counts one request's way in the router's figures: what its `RoutedRequest` tells, and the times."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from kvlease.router.facts import RequestOver, RoutedOutcome, RouterFact

NOBODY = "no_engine"
"""The kind of error, and the reason in the figures, where no engine is named for a request."""


class CountsRequests(Protocol):
    """The figures as they are needed here: `figures.RouterFigures` has them."""

    def count(self, name: str, *values: str, by: int = 1) -> None:
        """Adds to a counter."""

    def observe(self, name: str, seconds: float, *values: str) -> None:
        """Adds a time to a histogram."""

    def hear(self, fact: RouterFact) -> None:
        """Counts a fact."""


class RequestRecord:
    """What is counted of one request; `hear` is told its facts."""

    def __init__(self, figures: CountsRequests, endpoint: str, now: Callable[[], float]) -> None:
        """`endpoint`: one of the catalogue's."""
        self._figures = figures
        self._endpoint = endpoint
        self._now = now
        self._arrived = now()
        self._asked_s = 0.0
        self._asking_since: float | None = None
        self._outcome: RoutedOutcome | None = None

    def hear(self, fact: RouterFact) -> None:
        """Counts a fact."""
        self._figures.hear(fact)
        if isinstance(fact, RequestOver):
            if fact.outcome is RoutedOutcome.REFUSED:
                self._figures.count("refused", NOBODY if fact.kind == NOBODY else "engine_failed")
            self._figures.count("requests", self._endpoint, self._outcome or fact.outcome)

    def broken(self) -> None:
        """The stream is ended too early, which the request itself has not decided."""
        self._outcome = RoutedOutcome.BROKEN_OFF

    def refused(self, reason: str) -> None:
        """The router refuses the request before it is routed; `reason`: one of the catalogue's."""
        self._figures.count("refused", reason)
        self._figures.count("requests", self._endpoint, RoutedOutcome.REFUSED)

    def left_early(self) -> None:
        """The client has left before its request was routed."""
        self._figures.count("requests", self._endpoint, RoutedOutcome.CLIENT_GONE)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """A context in which an engine is asked."""
        self._asking_since = self._now()
        try:
            yield
        finally:
            self._asked()

    def prefilled(self) -> None:
        """A prefill engine has answered."""
        self._figures.observe("prefill_seconds", self._now() - (self._asking_since or self._arrived))

    def began(self) -> None:
        """The first part of the answer is there."""
        self._asked()
        took_s = self._now() - self._arrived
        self._figures.observe("time_to_first_token_seconds", took_s, self._endpoint)
        self._figures.observe("overhead_seconds", max(0.0, took_s - self._asked_s))

    def _asked(self) -> None:
        if self._asking_since is not None:
            self._asked_s += self._now() - self._asking_since
            self._asking_since = None
