"""R16: whoever follows a link in the documentation, or a page that the code names, arrives."""

import re
from functools import cache
from pathlib import Path

import pytest

from docs.made.pages import DOCS, ROOT
from tests.docs.pages import PAGES, RESULTS, Link, anchors, fault_of, links

NAMED = re.compile(r"\bdocs/[\w./-]*\w|\b(?:[\w-]+/)*[\w-]+\.md\b")
"""A page, as code names it."""
CODE = ("src", "proof", "requirements")
DECISION = re.compile(r"(docs/decisions/\d{4})$")


def label(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize("page", PAGES + RESULTS, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    faults = [
        (link.target, fault)
        for link in links(page.read_text())
        if not link.is_elsewhere and (fault := fault_of(link, page))
    ]
    assert faults == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_a_page_can_be_reached_from_the_first_one(page: Path) -> None:
    assert page in reached(ROOT / "README.md") | {ROOT / "CHANGELOG.md"}, "no page links to it"


@cache
def reached(first: Path) -> frozenset[Path]:
    """The pages that whoever begins with this one can come to."""
    known, new = {first}, [first]
    while new:
        page = new.pop()
        there = {(page.parent / link.target.partition("#")[0]).resolve() for link in links(page.read_text())}
        fresh = {path for path in there if path.suffix == ".md" and path.is_file()} - known
        known |= fresh
        new += fresh
    return frozenset(known)


@pytest.mark.parametrize("folder", CODE)
def test_a_page_that_the_code_names_is_there(folder: str) -> None:
    """Docstrings, comments, log lines and errors name a page by its path from the root, or a decision by its number."""
    named = [(path, name) for path in sorted((ROOT / folder).rglob("*.py")) for name in NAMED.findall(path.read_text())]
    assert [(label(path), name) for path, name in named if not exists(name)] == []


def exists(named: str) -> bool:
    """Tells whether there is a page, a folder or a decision that is named so."""
    if DECISION.fullmatch(named):
        return any(ROOT.glob(f"{named}-*.md"))
    return (ROOT / named).exists()


# -- that they can fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("index.md", None),
        ("operate/install.md#its-three-names", None),
        ("../README.md", None),
        ("operate/install.md#no-such-heading", "has no heading #no-such-heading"),
        ("operate/nowhere.md", "is not there"),
        ("operate", "leads to a folder"),
        ("/index.md", "has to be relative"),
        ("../../elsewhere.md", "stay in this repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(target: str, fault: str | None) -> None:
    found = fault_of(Link(target, ""), DOCS / "index.md")
    assert found is None if fault is None else fault in str(found)


def test_links_are_found_wherever_they_stand() -> None:
    text = "# [A](a.md)\n\n| [`b`](b.md#x) |\n|---|\n| ![c](c.png) |\n\n- one [d\n  d](<d d.md>)\n\n`[no](no.md)`\n"
    assert [link.target for link in links(text)] == ["a.md", "b.md#x", "c.png", "d%20d.md"]
    assert list(links("```\n[no](no.md)\n```\n")) == []


def test_anchors_are_those_of_the_headings() -> None:
    text = "# One: `two_three`, (four)\n## What's - *this*\n## One\n## One\n"
    assert anchors(text) == {"one-two_three-four", "whats---this", "one", "one again"}


def test_a_page_that_is_not_there_is_found() -> None:
    assert NAMED.findall("see docs/protocol/fence.md, or (guide.md), docs/decisions/0001: why") == [
        "docs/protocol/fence.md",
        "guide.md",
        "docs/decisions/0001",
    ]
    assert [
        exists(name) for name in ("docs/protocol/fence.md", "docs/decisions/0001", "docs/decisions/0999", "guide.md")
    ] == [
        True,
        True,
        False,
        False,
    ]
