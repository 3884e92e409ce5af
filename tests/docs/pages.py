"""The documentation's pages, and what a link in one of them has to lead to."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from docs.made.pages import DOCS, ROOT

PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
"""All that is read."""
RESULTS = tuple(sorted((ROOT / "proof/bench/results").rglob("*.md")))
"""Tables of figures, which pages link to."""
_MARKDOWN = MarkdownIt("commonmark").enable("table")


class Link(NamedTuple):
    """A link in a page, or an image."""

    target: str
    text: str

    @property
    def is_elsewhere(self) -> bool:
        """Tells whether it leads out of this repository."""
        return re.match(r"[a-z]+:", self.target) is not None


def links(text: str) -> Iterator[Link]:
    """Yields all links of a page of Markdown, images among them."""
    for token in _inline(text):
        open_at = 0
        for index, child in enumerate(token.children or ()):
            if child.type == "link_open":
                open_at = index
            elif child.type == "link_close":
                opened = (token.children or [])[open_at]
                said = "".join(part.content for part in (token.children or [])[open_at:index])
                yield Link(str(opened.attrs["href"]), said)
            elif child.type == "image":
                yield Link(str(child.attrs["src"]), child.content)


@cache
def anchors(text: str) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and `make site` make them."""
    seen: Counter[str] = Counter()
    found = set()
    for before, token in zip(tokens := _MARKDOWN.parse(text), tokens[1:], strict=False):
        if before.type == "heading_open":
            said = "".join(child.content for child in token.children or ())
            anchor = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
            # Two headings that are alike would get different anchors in the two places.
            found.add(f"{anchor} again" if seen[anchor] else anchor)
            seen[anchor] += 1
    return frozenset(found)


def fault_of(link: Link, page: Path) -> str | None:
    """Returns the fault of a link in a page; None where it leads to something that is there."""
    path, _, anchor = link.target.partition("#")
    there = (page.parent / path).resolve() if path else page
    if path.startswith("/") or not there.is_relative_to(ROOT):
        return "it has to be relative, and stay in this repository"
    if not there.exists():
        return f"{there.relative_to(ROOT)} is not there"
    if there.is_dir():
        return "it leads to a folder, which a site does not show: name a page"
    if anchor and anchor not in (known := anchors(there.read_text())):
        return f"{there.relative_to(ROOT)} has no heading #{anchor}; it has {', '.join(sorted(known))}"
    return None


def _inline(text: str) -> Iterator[Token]:
    return (token for token in _MARKDOWN.parse(text) if token.type == "inline")
