"""Queries of Prometheus: the series that one asks for, the labels that it chooses them by, and those that it groups by.

It reads the queries of this project, none of which has a name as a string or a matcher without a name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_SELECTOR = re.compile(r'(?<![\w.:])([a-zA-Z_:][\w:]*+)\s*+(\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})?(?!\s*\()')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_KEYWORDS = {"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"}


@dataclass(frozen=True)
class Matcher:
    """A label and the values that it may have."""

    label: str
    operator: str
    value: str

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The values that it names; none for a variable of a dashboard or a pattern."""
        if "$" in self.value or "*" in self.value:
            return ()
        return tuple(self.value.split("|")) if "~" in self.operator else (self.value,)


@dataclass(frozen=True)
class Selector:
    """A series, or several of one name."""

    name: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> Iterator[Selector]:
    """Yields every selector of a query."""
    text = _RANGE.sub("", _GROUPING.sub("", expression))
    for found in _SELECTOR.finditer(text):
        name, braces = found[1], found[2] or ""
        if name not in _KEYWORDS:
            yield Selector(name, tuple(Matcher(*matcher) for matcher in _MATCHER.findall(braces)))


def grouped_by(expression: str) -> set[str]:
    """Returns the labels that a query groups or joins by."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",") if label.strip()}
