"""The text of a vLLM, in a folder that holds `vllm/` or in a wheel: looked at, never imported."""

import ast
import hashlib
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any


class Text:
    """The text of one vLLM. Raises `FileNotFoundError` where there is none."""

    def __init__(self, place: Path) -> None:
        """`place` is a folder that holds `vllm/`, as site-packages does, or a wheel."""
        self.place = place
        self._wheel = zipfile.ZipFile(place) if place.suffix == ".whl" else None
        self._parsed: dict[str, ast.Module | None] = {}
        if "vllm/__init__.py" not in self.names:
            raise FileNotFoundError(f"{place} holds no vllm")

    @cached_property
    def names(self) -> frozenset[str]:
        """The paths of all Python files, as `vllm/…`."""
        if self._wheel is not None:
            return frozenset(name for name in self._wheel.namelist() if name.endswith(".py"))
        return frozenset(str(path.relative_to(self.place)) for path in (self.place / "vllm").rglob("*.py"))

    def read(self, name: str) -> str:
        if self._wheel is not None:
            return self._wheel.read(name).decode()
        return (self.place / name).read_text()

    def file(self, name: str) -> ast.Module | None:
        """A file, parsed; None where there is none."""
        if name not in self._parsed:
            self._parsed[name] = ast.parse(self.read(name)) if name in self.names else None
        return self._parsed[name]

    def find(self, where: str) -> ast.AST | None:
        """The node at `module:Class.method`; None where there is none."""
        module, _, dotted = where.partition(":")
        found: ast.AST | None = self.file(self._holding(module))
        for part in dotted.split("."):
            if found is None:
                return None
            found = next((node for node in ast.iter_child_nodes(found) if part in _names(node)), None)
        return found

    def line_of(self, where: str) -> str:
        """The file and line of a node, for a reader to find it."""
        found = self.find(where)
        return f"{self._holding(where.partition(':')[0])}:{getattr(found, 'lineno', '?')}"

    def _holding(self, module: str) -> str:
        """The file of a module, which is a package's `__init__.py` where it is one."""
        package = file_of(f"{module}.__init__")
        return package if package in self.names else file_of(module)


def file_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def parameters(function: ast.AST) -> str:
    """The names of a function's parameters, as `surface.Place.takes` has them."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    given = function.args
    return " ".join(each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs))


def attributes(kind: ast.AST) -> set[str]:
    """The attributes that the class's `__init__` sets on the object."""
    made = next((n for n in ast.iter_child_nodes(kind) if "__init__" in _names(n)), None)
    nodes = ast.walk(made) if made is not None else ()
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") == "self"
    }


def digest(function: ast.AST) -> str:
    """The digest of a function's code without comments, docstrings and annotations; the same on every Python."""
    return hashlib.sha256(repr(_bare(function)).encode()).hexdigest()[:12]


def _bare(node: Any) -> Any:
    """A tree of names and values, without what does not run."""
    if isinstance(node, list):
        return [_bare(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return node
    parts = {name: part for name, part in ast.iter_fields(node) if name not in ("annotation", "returns", "kind")}
    # Another Python has other fields: empty ones are left out, so that the digest does not depend on them.
    return type(node).__name__, [(name, _bare(part)) for name, part in parts.items() if part not in (None, [])]


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
