"""Counts one request's way in the router's figures."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from kvlease.router.actions import AskDecode, AskPrefill
from kvlease.router.failures import EngineFailure


class CountsRequests(Protocol):
    """The figures as they are needed here: `figures.RouterFigures` has them."""

    def count(self, name: str, *values: str, by: int = 1) -> None:
        """Adds to a counter."""

    def observe(self, name: str, seconds: float, *values: str) -> None:
        """Adds a time to a histogram."""


class RequestRecord:
    """What is counted of one request."""

    def __init__(self, figures: CountsRequests, endpoint: str, now: Callable[[], float]) -> None:
        """`endpoint`: one of the catalogue's."""
        self._figures = figures
        self._endpoint = endpoint
        self._now = now
        self._arrived = now()
        self._asked_s = 0.0
        self._asking_since: float | None = None
        self._last_failure: EngineFailure | None = None
        self._prefills = 0
        self._continued = False
        self.outcome = "ok"
        """One of the catalogue's."""

    @contextlib.contextmanager
    def asking(self, action: AskPrefill | AskDecode) -> Iterator[None]:
        """A context in which an engine is asked."""
        if self._last_failure is not None and self._last_failure is not EngineFailure.REFUSED:
            self._figures.count("retries", _role(action), self._last_failure)
            self._last_failure = None
        if action.continued and not self._continued:
            self._continued = True
            self._figures.count("continued_streams")
        if isinstance(action, AskPrefill) and not action.continued and self._prefills:
            self._figures.count("second_prefills")
        self._asking_since = self._now()
        try:
            yield
        finally:
            self._asked()

    def _asked(self) -> None:
        if self._asking_since is not None:
            self._asked_s += self._now() - self._asking_since
            self._asking_since = None

    def prefilled(self, action: AskPrefill) -> None:
        """A prefill engine has answered."""
        self._prefills += 1
        self._figures.count("attempts", "prefill", "ok")
        if self._asking_since is not None:
            self._figures.observe("prefill_seconds", self._now() - self._asking_since)

    def whole_prompt(self) -> None:
        """A decode engine computes the prompt, since no prefill is to be had."""
        self._figures.count("whole_prompts")

    def failed(self, action: AskPrefill | AskDecode, failure: EngineFailure) -> None:
        """A call has failed."""
        self._last_failure = failure
        self._figures.count("attempts", _role(action), failure)

    def began(self) -> None:
        """The first part of the answer is there."""
        self._asked()
        took_s = self._now() - self._arrived
        self._figures.observe("time_to_first_token_seconds", took_s, self._endpoint)
        self._figures.observe("overhead_seconds", max(0.0, took_s - self._asked_s))

    def answered(self, action: AskDecode) -> None:
        """A decode engine's answer is complete."""
        self._figures.count("attempts", "decode", "ok")

    def passed_on(self, status: int) -> None:
        """The client gets an engine's own error."""
        self.outcome = "refused_by_engine" if status < 500 else "failed"

    def refused(self, reason: str | None) -> None:
        """The client gets an error of the router's; `reason`: one of the catalogue's, None for a failure."""
        self.outcome = "failed" if reason is None else "refused"
        if reason is not None:
            self._figures.count("refused", reason)

    def broken(self) -> None:
        """The client gets the end of a stream too early."""
        self.outcome = "broken"

    def client_gone(self) -> None:
        """The client has left."""
        self.outcome = "client_gone"

    def over(self) -> None:
        """The request has ended."""
        self._figures.count("requests", self._endpoint, self.outcome)


def _role(action: AskPrefill | AskDecode) -> str:
    return "prefill" if isinstance(action, AskPrefill) else "decode"
