"""R16: the site has every page, and leads to what is beside the pages."""

import re

import pytest

from docs.made.pages import DOCS, ROOT
from docs.site import outside, redirected

PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)


def test_every_page_is_in_the_sites_list() -> None:
    listed = set(re.findall(r"^ +- ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


FIGURES = "proof/bench/results/cpu/figures.md"


def test_in_the_site_a_link_out_of_docs_leads_to_a_copy_and_the_copys_back() -> None:
    page, text = (
        "contribute/performance.md",
        f"[f](../../{FIGURES}#x) [d](../decisions/README.md) [w](https://a.b/../c)",
    )
    assert outside(text, page) == {FIGURES}
    assert redirected(text, page) == f"[f](../beside/{FIGURES}#x) [d](../decisions/README.md) [w](https://a.b/../c)"
    back = redirected("[p](../../../../docs/contribute/performance.md)", f"beside/{FIGURES}")
    assert back == "[p](../../../../../contribute/performance.md)"


@pytest.mark.parametrize("other", ["dev.txt", "engine.txt"])
def test_what_the_site_needs_agrees_with_what_is_installed_beside_it(other: str) -> None:
    """All of it goes into one environment, with --no-deps: the last one would win."""
    ours, theirs = (dict(PIN.findall((ROOT / "requirements" / name).read_text())) for name in ("site.txt", other))
    assert len(ours) > 10
    assert {name: version for name, version in ours.items() if theirs.get(name, version) != version} == {}
