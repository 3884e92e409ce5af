"""The hook of mkdocs that `make site` needs beside turning pages into HTML.

A link that leaves `docs/` is good where the repository is read; in the site it leads to a copy of the file.
"""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

OUTSIDE = re.compile(r"(?<=\]\()((?:\.\./)+[\w./-]+)(?=[)#])")
"""The target of a link that leads upwards."""
BESIDE = "beside"
"""The folder of the site for what is beside `docs/`."""


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Adds whatever the pages link to outside of `docs/`."""
    from mkdocs.structure.files import File, InclusionLevel

    root = Path(config.docs_dir).parent
    added: dict[str, Path] = {}
    for page in files.documentation_pages():
        added |= {f"{BESIDE}/{found}": root / found for found in outside(page.content_string, page.src_uri)}
    for uri, path in sorted(added.items()):
        files.append(File.generated(config, uri, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Leads links out of `docs/` to the copies, and the copies' own links back."""
    del config, files
    return redirected(markdown, page.file.src_uri)


def outside(markdown: str, uri: str) -> set[str]:
    """The files beside `docs/` that a page links to, as paths from the root; `uri`: the page's path from `docs/`."""
    return {found for target in OUTSIDE.findall(markdown) if (found := _beside(target, uri)) is not None}


def redirected(markdown: str, uri: str) -> str:
    """Returns the page with its links as the site needs them."""
    return OUTSIDE.sub(lambda link: _lead(link[1], uri), markdown)


def _lead(target: str, uri: str) -> str:
    folder = posixpath.dirname(uri)
    if folder.startswith(f"{BESIDE}/"):
        # A copy: it links from where the file itself is.
        there = posixpath.normpath(posixpath.join(folder.removeprefix(f"{BESIDE}/"), target))
        return posixpath.relpath(there.removeprefix("docs/"), folder)
    found = _beside(target, uri)
    return target if found is None else posixpath.relpath(f"{BESIDE}/{found}", folder or ".")


def _beside(target: str, uri: str) -> str | None:
    """The path from the root that a link leads to; None where it stays in `docs/`."""
    there = posixpath.normpath(posixpath.join("docs", posixpath.dirname(uri), target))
    return None if there.startswith("docs/") else there
