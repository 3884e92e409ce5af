"""R13, R14: whatever the product says in the log or as an error is on the page for operators, with its cause.

The page names a message by the beginning of its text, each value as "…", as far as it takes to tell it from all others.
"""

import re
from pathlib import Path

import pytest

from docs.made.pages import DOCS, ROOT
from tests.docs.messages_in_code import Spoken, spoken

ROOMS = ("protocol", "fence", "agent", "engine", "admin", "events", "vllm")
PAGE = DOCS / "operate" / "troubleshoot.md"
ROW = re.compile(r"^\| `([^`]*)` \| (.*) \| (.*) \|$", re.MULTILINE)
FOUND = [each for room in ROOMS for each in spoken(ROOT / "src/kvlease" / room)]
LISTED = [key for key, _, _ in ROW.findall(PAGE.read_text().partition("\n## An engine does not start\n")[2])]
OTHERS = {
    "module … has no attribute …; connectors here are …",
    "the fence's words are little-endian; this machine is not",
}
"""Messages on the page that are not among those that are found: errors of Python's own kinds, and no warnings."""


PASSED_ON = {"kvlease: …", "in …, …"}
"""Messages that begin with nothing by which they could be told."""


def says(key: str, text: str) -> bool:
    """Tells whether a row of the page is that of a message."""
    return key == text or (key not in PASSED_ON and text.startswith(key))


def test_messages_are_found_at_all() -> None:
    rooms = {each.place.partition("/")[0] for each in FOUND}
    assert rooms == {"protocol", "agent", "engine", "admin", "events", "vllm"}
    assert len({each.text for each in FOUND}) > 30


@pytest.mark.parametrize("message", FOUND, ids=lambda message: message.place)
def test_a_message_has_exactly_one_row(message: Spoken) -> None:
    rows = [key for key in LISTED if says(key, message.text)]
    assert len(rows) == 1, f"{message.text!r} ({message.place}) has {len(rows)} rows in {PAGE}; write one"


@pytest.mark.parametrize("key", sorted(set(LISTED) - OTHERS))
def test_a_row_is_that_of_one_message(key: str) -> None:
    texts = {each.text for each in FOUND if says(key, each.text)}
    assert len(texts) == 1, f"the row `{key}` is that of {sorted(texts)}; a row tells one message from all others"


def test_rows_are_not_repeated() -> None:
    assert len(LISTED) == len(set(LISTED))


def test_a_message_is_read_as_an_operator_sees_it(tmp_path: Path) -> None:
    code = tmp_path / "room" / "file.py"
    code.parent.mkdir()
    code.write_text(
        'log.warning("a %016x of "\n    "b: %r", 1, 2)\nlog.info("%s", 3)\n'
        'raise ConfigError(f"{name} is {value!r}: no")\nraise ValueError("ours")\n'
    )
    assert {each.text for each in spoken(tmp_path / "room")} == {"a … of b: …", "… is …: no"}


def test_a_message_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text("log.warning(message)\n")
    with pytest.raises(ValueError, match="no page can be asked for it"):
        list(spoken(tmp_path))
