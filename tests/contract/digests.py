"""Digests of functions in a vLLM's text, to see that one has changed."""

import ast
import hashlib
from typing import Any


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
