"""Counts one request's way in the router's figures: what its `RoutedRequest` tells, and the times."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from kvlease.router.facts import (
    CallFailed,
    Outcome,
    PromptRecomputed,
    RequestOver,
    RequestRetried,
    RouterFact,
    StreamContinued,
    WholePrompt,
    WholePromptSent,
)
from kvlease.router.failures import EngineFailure

NOBODY = "no_engine"
"""The kind of error, and the reason in the figures, where no engine can be asked."""
_OUTCOMES: Mapping[Outcome, str] = {
    Outcome.FINISHED: "ok",
    Outcome.PASSED_ON: "failed",
    Outcome.REFUSED: "failed",
    Outcome.BROKEN_OFF: "broken",
    Outcome.CLIENT_GONE: "client_gone",
}


class CountsRequests(Protocol):
    """The figures as they are needed here: `figures.RouterFigures` has them."""

    def count(self, name: str, *values: str, by: int = 1) -> None:
        """Adds to a counter."""

    def observe(self, name: str, seconds: float, *values: str) -> None:
        """Adds a time to a histogram."""


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
        self._failure: EngineFailure | None = None
        self._outcome: str | None = None

    def hear(self, fact: RouterFact) -> None:
        """Counts a fact."""
        match fact:
            case CallFailed():
                self._failure = fact.failure
                self._figures.count("attempts", fact.role, fact.failure)
            case RequestRetried():
                self._figures.count("retries", fact.role, fact.failure)
            case PromptRecomputed():
                self._figures.count("second_prefills")
            case WholePromptSent():
                if fact.why is not WholePrompt.ASKED:
                    self._figures.count("whole_prompts")
            case StreamContinued():
                self._figures.count("continued_streams")
            case RequestOver():
                self._over(fact)
            case _:
                pass

    def _over(self, fact: RequestOver) -> None:
        outcome = self._outcome or _OUTCOMES[fact.outcome]
        if fact.outcome is Outcome.PASSED_ON and self._failure is EngineFailure.REFUSED:
            outcome = "refused_by_engine"
        if fact.outcome is Outcome.REFUSED and fact.kind == NOBODY:
            self._figures.count("refused", NOBODY)
            outcome = "refused"
        self._figures.count("requests", self._endpoint, outcome)

    def broken(self) -> None:
        """The stream is ended too early, which the request itself has not decided."""
        self._outcome = "broken"

    def refused(self, reason: str) -> None:
        """The router refuses the request before it is routed; `reason`: one of the catalogue's."""
        self._figures.count("refused", reason)
        self._figures.count("requests", self._endpoint, "refused")

    def left_early(self) -> None:
        """The client has left before its request was routed."""
        self._figures.count("requests", self._endpoint, "client_gone")

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
        self._figures.count("attempts", "prefill", "ok")
        self._figures.observe("prefill_seconds", self._now() - (self._asking_since or self._arrived))

    def began(self) -> None:
        """The first part of the answer is there."""
        self._asked()
        took_s = self._now() - self._arrived
        self._figures.observe("time_to_first_token_seconds", took_s, self._endpoint)
        self._figures.observe("overhead_seconds", max(0.0, took_s - self._asked_s))

    def answered(self) -> None:
        """A decode engine's answer is complete."""
        self._figures.count("attempts", "decode", "ok")

    def _asked(self) -> None:
        if self._asking_since is not None:
            self._asked_s += self._now() - self._asking_since
            self._asking_since = None
