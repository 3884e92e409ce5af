"""Docstrings begin with what a thing is or does, never in the middle of a sentence (docs/contribute/prose.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "proof", "tests", "docs", "requirements", "examples")
IN_THE_MIDDLE = re.compile(
    r"(after|although|also|and|as|at|because|before|between|but|by|even|for|from|how|if|in|into|just|like|nor|not|of|on"
    r"|once|only|or|over|per|since|so|than|that|then|though|through|to|under|unless|until|upon|what|when|where|whether"
    r"|which|while|who|whom|whose|why|with|within|without|yet)\b",
    re.IGNORECASE,
)
"""Words that continue a sentence, or ask, instead of naming a thing or an act."""
NAMES = ("vLLM", "vllm ", "kvlease", "kv_both", "ddmin", "smg")
"""Names that are written small wherever they stand."""


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """The line and the text of every docstring: of modules, classes, functions, and below fields and constants."""
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            of_its_own = before is None and not isinstance(node, ast.If | ast.For | ast.With | ast.Try | ast.While)
            if not (of_its_own or isinstance(before, ast.Assign | ast.AnnAssign)):
                continue
            match statement:
                case ast.Expr(value=ast.Constant(value=str(docstring))):
                    yield statement.lineno, docstring


def begins_in_the_middle(docstring: str) -> bool:
    text = docstring.strip()
    return bool(IN_THE_MIDDLE.match(text.lstrip("`…"))) or (text[0].islower() and not text.startswith(NAMES))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_begins_in_the_middle_of_a_sentence(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {docstring.splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, docstring in docstrings(path.read_text())
        if docstring.strip() and begins_in_the_middle(docstring)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"""Once it is posted."""', True),
        ('class A:\n    """crashes or stalls."""', True),
        ('class A:\n    b: int\n    """Of the whole."""', True),
        ('B = 1\n"""What it is."""', True),
        ('async def f():\n    """Whether it lives."""', True),
        ('def f():\n    """Returns the leases."""', False),
        ('def f():\n    """vLLM asks."""', False),
        ('def f():\n    print(1)\n    """Of no meaning: no docstring."""', False),
    ],
)
def test_a_docstring_is_found_wherever_it_stands(text: str, found: bool) -> None:
    assert any(begins_in_the_middle(docstring) for _, docstring in docstrings(text)) is found
