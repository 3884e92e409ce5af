"""Writes the tables of docs/guide.md that come from the code: `python docs/tables.py`. `make check` compares them."""

from collections.abc import Iterator
from pathlib import Path

from kvlease.vllm.catalogue import COUNTERS, GAUGES, VALUES

GUIDE = Path(__file__).with_name("guide.md")
BEGIN, END = "<!-- {}: from the code, by `make docs` -->\n", "<!-- end of {} -->\n"


def metrics() -> Iterator[str]:
    """Every metric, with its label and what that can say."""
    yield "| metric | label | meaning |"
    yield "|---|---|---|"
    for suffix, table in (("", GAUGES), ("_total", COUNTERS)):
        for name, (label, meaning) in table.items():
            yield f"| `kvlease:{name}{suffix}` | {f'`{label}`' if label else ''} | {meaning} |"


def values() -> Iterator[str]:
    """What each label can say."""
    yield "| metric | its label | is |"
    yield "|---|---|---|"
    for name, meanings in VALUES.items():
        for value, meaning in meanings.items():
            yield f"| `{name}` | `{value}` | {meaning} |"


TABLES = {"metrics": metrics, "values": values}


def written(text: str) -> str:
    """The page with its tables as the code has them. Raises ValueError where a table's place is missing."""
    for name, lines in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no place for the table {name!r}: it lies between {begin!r} and {end!r}")
        text = head + begin + "\n".join(lines()) + "\n" + end + tail
    return text


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text()))
