"""The list of what judges each promise names every promise, and judges that are there."""

import re
from pkgutil import resolve_name

from docs.made.pages import DOCS
from proof import promises

ROW = re.compile(r"^    (?=[SL]\d  )", re.MULTILINE)
JUDGE = re.compile(r"\b(?:promises|simulate|explore|chaos)\.[\w.]+\w")


def test_every_promise_has_judges() -> None:
    text = str(promises.__doc__)
    rows = {row[:2]: JUDGE.findall(row.split("\n\n")[0]) for row in ROW.split(text)[1:]}
    specified = re.findall(r"^\| ([SL]\d) \|", (DOCS / "protocol/index.md").read_text(), re.MULTILINE)
    assert list(rows) == specified
    assert all(rows.values()), rows
    for judge in JUDGE.findall(text):
        assert callable(resolve_name(f"proof.{judge}")), judge
