"""The questions to one engine's admin core, as JSON: what a door hands over is bytes, in and out.

Bounds stand in the types, so that whatever is decoded may be asked.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_QUESTION_BYTES = 4096
"""The longest question; the longest that a door makes, with two filters of control characters, fits."""
MAX_LIMIT = 1000
"""The most entries of a page."""
MAX_TEXT = 256
"""The most characters of a filter, and of what clients have written in an answer."""
PREFIX_PATTERN = "^[0-9a-f]{8,16}$"
"""A token, or its beginning."""

ListedState = Literal["granted", "claimed", "lapsed"]
Token = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="ask"):
    """The base of all questions."""


class HealthQuestion(Question, frozen=True, tag="health"):
    """The state of the engine as a whole."""


class LeasesQuestion(Question, frozen=True, tag="leases"):
    """A page of the leases that match all filters, in the order of their grants."""

    state: ListedState | None = None
    consumer: Text = ""
    """The beginning of the engine id of a consumer that claims it."""
    request: Text = ""
    """The beginning of the request's id."""
    min_age_s: Annotated[float, Meta(ge=0)] = 0.0
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 100
    after_rank: Annotated[int, Meta(ge=0)] = 0
    """The rank of the engine whose leases the page begins with; those of the ranks before were on earlier pages."""
    after: Annotated[int, Meta(ge=0)] = 0
    """The number of the grant, on that rank, behind which the page begins."""
    full_tokens: bool = False


class SessionsQuestion(Question, frozen=True, tag="sessions"):
    """The open sessions of the engine, at most `MAX_LIMIT` of each kind."""


class TokenQuestion(Question, frozen=True, tag="token"):
    """The leases whose token begins with these digits."""

    prefix: Annotated[str, Meta(pattern=PREFIX_PATTERN)]


class ReleaseOrder(Question, frozen=True, tag="release"):
    """A lease is to end at once."""

    token: Token


class DrainQuestion(Question, frozen=True, tag="drain?"):
    """The state of the drain."""


class DrainOrder(Question, frozen=True, tag="drain"):
    """No lease is to be granted any more; or, with `draining` false, leases are to be granted again."""

    draining: bool = True


Questions = (
    HealthQuestion | LeasesQuestion | SessionsQuestion | TokenQuestion | ReleaseOrder | DrainQuestion | DrainOrder
)


class LeasesFound(msgspec.Struct, frozen=True):
    """The answer to `LeasesQuestion`: `answers.LeaseEntry`s as JSON, and the number of each one's grant."""

    leases: list[msgspec.Raw]
    numbers: list[int]
    more: bool
    """True where leases behind these match as well."""
    total: int


class TokensFound(msgspec.Struct, frozen=True):
    """The answer to `TokenQuestion`: whole tokens, two at most."""

    tokens: list[str]


class RankAnswer(msgspec.Struct, frozen=True):
    """The answer of one engine: for an error (status 400 and above) an `answers.ErrorDetail`."""

    rank: int
    status: int
    answer: msgspec.Raw


def read_question(payload: bytes) -> Questions:
    """Raises `msgspec.DecodeError` (`ValidationError` among them) or `ValueError`, which say what is wrong."""
    if len(payload) > MAX_QUESTION_BYTES:
        raise ValueError(f"the question has {len(payload)} B; there may be {MAX_QUESTION_BYTES}")
    question: Questions = msgspec.json.decode(payload, type=Questions)
    return question
