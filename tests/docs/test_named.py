"""R16: files, commands and targets of make that a page or the code names are there."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs.made.pages import DOCS, ROOT
from tests.docs.pages import PAGES

HISTORY = {
    ROOT / "CHANGELOG.md": "# Changelog",
    DOCS / "proofs/bugs.md": "# Bugs found",
    DOCS / "contribute/glossary.md": "## Names that have changed",
}
"""Pages that have the names of old commits, and from which heading on."""
MADE_UP = {("tests/console/test_commands.py", "make try")}
"""Names that a test needs and that stand for none."""
SPAN = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.py")
PLACES = ("", "src", "src/kvlease", "proof", "docs")
"""The folders in which a path may begin. A file's bare name stands beside its folder's, and may be in any."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def present(page: Path) -> str:
    """The page, as far as it tells of what is."""
    text = page.read_text()
    return text.partition(HISTORY[page])[0] if page in HISTORY else text


def spans(page: Path) -> Iterator[str]:
    """All code of a page, a line or a span at a time."""
    text = present(page)
    for block in BLOCK.findall(text):
        yield from block.splitlines()
    yield from SPAN.findall(BLOCK.sub("", text))


def code() -> Iterator[Path]:
    """Every file of code, whose comments, docstrings and messages have names."""
    for folder in ("src", "proof", "tests", "docs", "requirements", "examples"):
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".txt"))
    yield ROOT / "Makefile"
    yield ROOT / "mkdocs.yml"


def test_what_the_code_names_is_there() -> None:
    missing = [
        (str(path.relative_to(ROOT)), name)
        for path in code()
        for span in SPAN.findall(path.read_text())
        for name in named(span)
        if not is_there(name)
    ]
    assert [entry for entry in missing if entry not in MADE_UP] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    missing = [name for span in spans(page) for name in named(span) if not is_there(name)]
    assert missing == []


def named(span: str) -> Iterator[str]:
    """Yields the files, targets and commands that code names."""
    if FILE.fullmatch(span) and not span.startswith(("out/", ".venv/", "vllm/")):
        yield span
    yield from (f"make {target}" for target in re.findall(r"\bmake ([a-z][a-z-]*)", span))
    yield from (f"proof {command}" for command in re.findall(r"\bpython -m proof ([a-z][a-z-]*)", span))
    yield from (f"kvlease {command}" for command in re.findall(r"^kvlease ([a-z]+)\b", span))


def is_there(name: str) -> bool:
    """Tells whether a file, a target or a command is there."""
    kind, _, rest = name.partition(" ")
    match kind:
        case "make":
            return rest in TARGETS
        case "proof":
            return (ROOT / "proof/cli" / f"{rest.replace('-', '_')}.py").is_file()
        case "kvlease":
            return (ROOT / "src/kvlease/cli" / f"{rest}.py").is_file()
    if "/" not in name:
        return any(path.name == name for path in files())
    return any((ROOT / place / name).exists() for place in PLACES)


@cache
def files() -> tuple[Path, ...]:
    """Every Python file that a page may name."""
    return tuple(path for folder in ("src", "proof", "tests", "requirements") for path in (ROOT / folder).rglob("*.py"))


def test_a_name_that_is_not_there_is_found() -> None:
    assert list(named("src/kvlease/nowhere.py")) == ["src/kvlease/nowhere.py"]
    assert list(named("make sim MINUTES=10")) == ["make sim"]
    assert list(named("python -m proof fuzz --minutes 1")) == ["proof fuzz"]
    assert list(named("kvlease chaos")) == ["kvlease chaos"]
    wrong = ("src/kvlease/nowhere.py", "make sim", "proof fuzz", "kvlease chaos")
    assert not any(map(is_there, wrong))
    right = (
        "src/kvlease/engine/worker.py",
        "engine/worker.py",
        "proof/promises/",
        "make simulate",
        "proof fuzz-bytes",
        "kvlease fleet",
    )
    assert all(map(is_there, right))
