"""The text of a vLLM, in a folder that holds `vllm/` or in a wheel: looked at, never imported.

`lacking` compares it with `surface`, as `surface.check` does with an imported vLLM: in half a second, without torch.
"""

import ast
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from kvlease.vllm.surface import ATTRIBUTES, PLACES


class Text:
    """The text of one vLLM. Raises `FileNotFoundError` where there is none."""

    def __init__(self, root: Path) -> None:
        """`root` is a folder that holds `vllm/`, as site-packages does, or a wheel."""
        self.root = root
        self._wheel = zipfile.ZipFile(root) if root.suffix == ".whl" else None
        self._parsed: dict[str, ast.Module | None] = {}
        if "vllm/__init__.py" not in self.names:
            raise FileNotFoundError(f"{root} holds no vllm")

    @cached_property
    def names(self) -> frozenset[str]:
        """The paths of all Python files, as `vllm/…`."""
        if self._wheel is not None:
            return frozenset(name for name in self._wheel.namelist() if name.endswith(".py"))
        return frozenset(str(path.relative_to(self.root)) for path in (self.root / "vllm").rglob("*.py"))

    def read(self, name: str) -> str:
        """Returns the text of a file."""
        if self._wheel is not None:
            return self._wheel.read(name).decode()
        return (self.root / name).read_text()

    def file(self, name: str) -> ast.Module | None:
        """Returns a file, parsed; None where there is none."""
        if name not in self._parsed:
            self._parsed[name] = ast.parse(self.read(name)) if name in self.names else None
        return self._parsed[name]

    def find(self, where: str) -> ast.AST | None:
        """Returns the node at `module:Class.method`; None where there is none."""
        module, _, dotted = where.partition(":")
        found: ast.AST | None = self.file(self._holding(module))
        for part in dotted.split("."):
            if found is None:
                return None
            found = next((node for node in ast.iter_child_nodes(found) if part in _names(node)), None)
        return found

    def line_of(self, where: str) -> str:
        """Returns the file and line of a node, for a reader to find it."""
        found = self.find(where)
        return f"{self._holding(where.partition(':')[0])}:{getattr(found, 'lineno', '?')}"

    def _holding(self, module: str) -> str:
        """The file of a module, which is a package's `__init__.py` where it is one."""
        package = file_of(f"{module}.__init__")
        return package if package in self.names else file_of(module)


def file_of(module: str) -> str:
    """Returns the path of a module that is no package."""
    return module.replace(".", "/") + ".py"


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def parameters(function: ast.AST) -> str:
    """Returns the names of a function's parameters, as `surface.Used.takes` has them."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    given = function.args
    return " ".join(each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs))


def attributes(kind: ast.AST) -> set[str]:
    """Returns the attributes that the class's `__init__` sets on the object."""
    made = next((n for n in ast.iter_child_nodes(kind) if "__init__" in _names(n)), None)
    nodes = ast.walk(made) if made is not None else ()
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", "") == "self"
    }


class Lack(NamedTuple):
    """A part of vLLM that kvlease needs, and that a text does not have as it is needed."""

    kind: str
    """"missing" or "different"."""
    what: str
    where: str = ""
    """Its file and line, where it is there at all."""


def lacking(text: Text) -> Iterator[Lack]:
    """Yields what kvlease needs of vLLM, by `surface`, and this one does not have."""
    for used in PLACES:
        node = text.find(used.where)
        if node is None:
            yield Lack("missing", used.where)
        elif used.takes is not None and (takes := parameters(node)) != used.takes:
            yield Lack("different", f"{used.where} takes ({takes})", text.line_of(used.where))
    for where, names in ATTRIBUTES.items():
        kind = text.find(where)
        known = attributes(kind) if kind is not None else set()
        yield from (Lack("missing", f"{where}: self.{name}") for name in names.split() if name not in known)
