"""The meanings of names: docstrings below attributes, read from the source, since Python drops them when it runs."""

import ast
import inspect
import itertools
import re
from collections.abc import Iterator, Sequence
from types import ModuleType

_REQUIREMENTS = re.compile(r" \((R\d+(?:, R\d+)*)\)")


def meanings(owner: type | ModuleType) -> dict[str, str]:
    """Each name that a class or a module assigns, in order, to its docstring as one line; "" where there is none."""
    tree = ast.parse(inspect.getsource(owner))
    body = tree.body
    if isinstance(body[0], ast.ClassDef):
        body = body[0].body
    return dict(_assigned(body))


def documented(owner: type | ModuleType) -> dict[str, str]:
    """The meanings of the public names alone. Raises ValueError where one has no docstring."""
    found = {name: meaning for name, meaning in meanings(owner).items() if not name.startswith("_")}
    if silent := [name for name, meaning in found.items() if not meaning]:
        raise ValueError(f"{owner.__name__}: no docstring below {', '.join(silent)}; write what each means")
    return found


def meaning(owner: type) -> str:
    """The docstring of a class, as one line."""
    return _one_line(inspect.getdoc(owner) or "")


def without_requirements(text: str) -> tuple[str, str]:
    """A meaning without the requirements that it names, and these beside it, as "R18, R23"."""
    return _REQUIREMENTS.sub("", text), ", ".join(_REQUIREMENTS.findall(text))


def _assigned(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise((*body, None)):
        match statement:
            case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                yield name, _docstring(following)


def _docstring(statement: ast.stmt | None) -> str:
    match statement:
        case ast.Expr(ast.Constant(str(text))):
            return _one_line(text)
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
