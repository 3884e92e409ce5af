"""Tables in Markdown."""

from collections.abc import Iterable, Iterator, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table. A cell is Markdown, of one line; a bar in it is escaped."""
    yield _line(head)
    yield "|" + "---|" * len(head)
    for row in rows:
        assert len(row) == len(head), row
        yield _line(row)


def code(name: object) -> str:
    """A name or a value, as code; nothing for nothing."""
    return f"`{name}`" if name != "" else ""


def number(value: float) -> str:
    """A number as readers write it: no trailing zeros, thousands apart."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
