"""The outcome of scenes under traffic: plain data, from which the judge and the table take their figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

FailoverFault = Literal["killed", "stopped", "draining", "full", "p-killed"]

FAULTS: Mapping[FailoverFault, str] = {
    "killed": "D killed",
    "stopped": "D stopped",
    "draining": "D shuts down",
    "full": "D answers 503",
    "p-killed": "P killed, started again",
}
"""The faults, in the order in which they are played."""

StreamFate = Literal["right", "wrong", "broken-off", "cut", "lost"]
"""`wrong`: a token that an undisturbed engine would not have given. `broken-off`: right tokens, then an error event.
`cut`: right tokens, then nothing more. `lost`: no token."""


@dataclass(frozen=True, kw_only=True)
class StreamEnd:
    """One request. Times are those of time.monotonic, in seconds."""

    fate: StreamFate
    prompt_tokens: int
    began_at: float
    ended_at: float
    first_at: float | None = None
    """The time of the first token; None: there was none."""
    status: int | None = None
    """The status of HTTP; None: no answer began."""
    said: str = ""
    """The reason why it is not right."""

    def had_token_at(self, when: float) -> bool:
        """Tells whether its client had a token at that time."""
        return self.first_at is not None and self.first_at <= when


@dataclass(frozen=True, kw_only=True)
class SceneRun:
    """One fault, one router. Times are those of time.monotonic, in seconds.

    `prefills` and `prefilled_tokens` are what P has computed for these requests, by its own count; None where P was
    killed, and its count with it. `left`: the blocks that P held `LEFT_AFTER_S` after the last answer.
    """

    arm: str
    fault: FailoverFault
    fault_at: float
    requests: Sequence[StreamEnd]
    prefills: int | None
    prefilled_tokens: int | None
    left: int
    took_s: float = 0.0

    def without_token(self) -> Iterator[StreamEnd]:
        """Yields the requests whose client had no token when it happened, or that came later."""
        for request in self.requests:
            if not request.had_token_at(self.fault_at) and request.ended_at > self.fault_at:
                yield request

    def with_part(self) -> Iterator[StreamEnd]:
        """Yields the requests whose client had a part of the answer when it happened."""
        for request in self.requests:
            if request.had_token_at(self.fault_at) and request.ended_at > self.fault_at:
                yield request

    @property
    def lost(self) -> int:
        """The requests without a token that were not answered whole; those answered wrongly count elsewhere."""
        return sum(request.fate not in ("right", "wrong") for request in self.without_token())

    @property
    def wrong(self) -> int:
        """The requests, of all, that got a wrong token."""
        return sum(request.fate == "wrong" for request in self.requests)

    @property
    def cut(self) -> int:
        """The streams that ended in the middle without a word."""
        return sum(request.fate == "cut" for request in self.with_part())

    @property
    def again(self) -> int | None:
        """The prompts that P has computed more than once; None where P's count is gone."""
        return None if self.prefills is None else max(0, self.prefills - len(self.requests))

    @property
    def tokens_again(self) -> int | None:
        """The tokens that P has computed more than once."""
        if self.prefilled_tokens is None:
            return None
        return max(0, self.prefilled_tokens - sum(request.prompt_tokens for request in self.requests))
