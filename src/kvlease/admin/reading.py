"""The parameters of a request's query: read by a table, or refused with what is allowed."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args

from kvlease.admin.core import Refused
from kvlease.admin.questions import MAX_LIMIT, MAX_TEXT, PREFIX_PATTERN, ListedState
from kvlease.errors import brief

MAX_WAIT_S = 600.0
"""The longest time that `POST drain` waits."""
MAX_AGE_S = 1e9
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_CURSOR = re.compile(r"(\d{1,5})\.(\d{1,15})", re.ASCII)
_PREFIX = re.compile(PREFIX_PATTERN)


class Parameter(NamedTuple):
    """A parameter of a query."""

    read: Callable[[str], Any]
    """Returns its value; raises `ValueError` for one that is not allowed."""
    allowed: str
    schema: Mapping[str, object]
    """Its JSON schema, for OpenAPI."""
    meaning: str


def _seconds(most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not value <= most:
            raise ValueError(text)
        return value

    return read


def _limit(text: str) -> int:
    value = int(text) if re.fullmatch(r"\d{1,6}", text, re.ASCII) else 0
    if not 1 <= value <= MAX_LIMIT:
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _state(text: str) -> str:
    if text not in get_args(ListedState):
        raise ValueError(text)
    return text


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(text)
    return text


def read_cursor(text: str) -> tuple[int, int]:
    """Returns the place that a cursor names: a rank, and the number of a grant there. Raises `ValueError`."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(found[1]), int(found[2])


def as_cursor(rank: int, number: int) -> str:
    """Returns the cursor for the place behind this grant. It tells nobody a token."""
    return f"{rank}.{number}"


_TEXT = {"type": "string", "maxLength": MAX_TEXT}
LEASES: Mapping[str, Parameter] = {
    "state": Parameter(
        _state,
        "granted, claimed or lapsed",
        {"type": "string", "enum": list(get_args(ListedState))},
        "Only leases in this state.",
    ),
    "consumer": Parameter(
        _text,
        f"the beginning of an engine id, at most {MAX_TEXT} characters",
        _TEXT,
        "Only leases that a consumer claims whose engine id begins so.",
    ),
    "request": Parameter(
        _text,
        f"the beginning of a request id, at most {MAX_TEXT} characters",
        _TEXT,
        "Only leases of requests whose id begins so.",
    ),
    "min_age": Parameter(
        _seconds(MAX_AGE_S),
        "a number of seconds, such as 2.5",
        {"type": "number", "minimum": 0, "maximum": MAX_AGE_S},
        "Only leases that are at least so old, in seconds.",
    ),
    "limit": Parameter(
        _limit,
        f"a whole number from 1 to {MAX_LIMIT}",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100},
        "The most leases of a page.",
    ),
    "cursor": Parameter(
        read_cursor,
        "what `next` of the page before says",
        {"type": "string", "pattern": r"^[0-9]{1,5}\.[0-9]{1,15}$"},
        "The place behind which the page begins.",
    ),
    "full_tokens": Parameter(
        _flag,
        "true or false",
        {"type": "boolean", "default": False},
        "All 16 digits of each token: whoever has them may read the lease's data.",
    ),
}
DRAIN: Mapping[str, Parameter] = {
    "wait": Parameter(
        _seconds(MAX_WAIT_S),
        f"a number of seconds from 0 to {MAX_WAIT_S:g}",
        {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
        "The longest time to wait until no lease is left, in seconds.",
    ),
}


def read_query(given: Iterable[tuple[str, str]], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """Returns the values of the parameters that were given. Raises `Refused`."""
    values: dict[str, Any] = {}
    for name, text in given:
        parameter = known.get(name)
        if parameter is None:
            there = f"there are: {', '.join(known)}" if known else "this route takes none"
            raise Refused(400, f"{brief(name)} is not a parameter here; {there}")
        if name in values:
            raise Refused(400, f"{name} is given twice")
        try:
            values[name] = parameter.read(text)
        except (ValueError, KeyError):
            raise Refused(400, f"{name} is {brief(text)}: it must be {parameter.allowed}") from None
    return values


def read_prefix(text: str) -> str:
    """Returns a token, or its beginning. Raises `Refused`."""
    if not _PREFIX.fullmatch(text):
        raise Refused(400, f"the token is {brief(text)}: it must be 8 to 16 lower-case hex digits, as in `GET leases`")
    return text
