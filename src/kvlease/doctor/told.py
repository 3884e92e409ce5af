"""The result of an examination as text, and as JSON."""

import textwrap
from collections.abc import Iterator

import msgspec

from kvlease.doctor.examination import Examined
from kvlease.doctor.findings import Finding, Severity

WIDTH = 100
_MARK = "  "


def as_json(examined: Examined) -> str:
    """Returns the result as JSON: looked_at, findings, advice."""
    content = {"looked_at": examined.looked_at, "findings": examined.findings, "advice": examined.advice}
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode()


def as_text(examined: Examined) -> Iterator[str]:
    """Yields the lines of the result: what was looked at, each finding, advice, and the sum."""
    for place, words in examined.looked_at.items():
        yield f"looked at {place}: {words}"
    for places, finding in _alike(examined):
        yield ""
        yield f"{finding.severity.upper()} {finding.id} ({', '.join(places)})"
        yield from _indented(finding.found)
        yield from _indented(finding.why)
        # Not broken into lines, so that it can be copied.
        yield f"{_MARK}Change: {finding.change}"
    for url, sentences in examined.advice.items():
        yield ""
        yield f"the term ({url})"
        yield from _indented(" ".join(sentences))
    yield ""
    yield _sum(examined)


def _alike(examined: Examined) -> Iterator[tuple[list[str], Finding]]:
    """Yields each finding once, with all places where the same was found."""
    places: dict[Finding, list[str]] = {}
    for finding in examined.findings:
        places.setdefault(msgspec.structs.replace(finding, place=""), []).append(finding.place)
    yield from ((found_at, finding) for finding, found_at in places.items())


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=_MARK, subsequent_indent=_MARK, break_long_words=False)


def _sum(examined: Examined) -> str:
    errors = sum(finding.severity is Severity.ERROR for finding in examined.findings)
    warnings = len(examined.findings) - errors
    return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}" if errors or warnings else "nothing found"


def _number(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
