"""The log lines and errors by which the product speaks to an operator, found in its source."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

LOGGED = {"warning", "error", "exception", "critical"}
RAISED = {"ConfigError", "UnsupportedEngine", "CardUnavailable"}
"""Errors that reach an operator: an engine's start ends with them, or they are logged as they are."""


class Spoken(NamedTuple):
    """Something that the product can say."""

    text: str
    """The message, each value in it as "…"."""
    place: str
    """File and line."""


def spoken(folder: Path, raised: Collection[str] = RAISED) -> Iterator[Spoken]:
    """Yields all that the Python files below a folder can say: in the log, and by the errors of these names. Raises
    ValueError for text that cannot be told."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (message := _message(node, raised)) is not None:
                place = f"{path.relative_to(folder.parent)}, line {message.lineno}"
                yield Spoken(_text(message, place), place)


def _message(node: ast.AST, raised: Collection[str]) -> ast.expr | None:
    """The message of a logging call or of an error that is raised."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name), args=[message, *_]) if name in LOGGED:
            return message
        case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[message, *_])) if name in raised:
            return message
    return None


def _text(message: ast.expr, place: str) -> str:
    match message:
        case ast.Constant(str(text)):
            return _without_conversions(text)
        case ast.JoinedStr(values):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in values)  # type: ignore[misc]
    raise ValueError(f"{place}: what is said here is no text, so no page can be asked for it; write it out")


def _without_conversions(text: str) -> str:
    """The text of a logging call with its conversions, as %s or %016x, as "…"."""
    head, *rest = text.split("%")
    return head + "".join("…" + part.lstrip("0123456789")[1:] for part in rest)
