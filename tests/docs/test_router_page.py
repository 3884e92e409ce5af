"""Whatever the router says in its log or ends with is on its page for operators, with its cause."""

import re

import pytest

from docs.made.pages import DOCS, ROOT
from tests.docs.messages_in_code import Spoken, spoken

PAGE = DOCS / "operate" / "router.md"
ROW = re.compile(r"^\| `([^`]*)` \| (.*) \| (.*) \|$", re.MULTILINE)
FOUND = list(spoken(ROOT / "src/kvlease/router", {"BadEngines", "CannotListen"}))
SECTION = PAGE.read_text().partition("\n### Lines in its log, and errors\n")[2].partition("\n## ")[0]
LISTED = [key for key, _, _ in ROW.findall(SECTION)]


def test_messages_are_found_at_all() -> None:
    assert len(FOUND) > 12
    assert len(LISTED) == len(set(LISTED))


@pytest.mark.parametrize("message", FOUND, ids=lambda message: message.place)
def test_a_message_has_exactly_one_row(message: Spoken) -> None:
    rows = [key for key in LISTED if message.text.startswith(key)]
    assert len(rows) == 1, f"{message.text!r} ({message.place}) has {len(rows)} rows in {PAGE}; write one"


@pytest.mark.parametrize("key", LISTED)
def test_a_row_is_that_of_one_message(key: str) -> None:
    assert len({each.text for each in FOUND if each.text.startswith(key)}) == 1
