"""A table on a console and in Markdown."""

from kvlease.console.tables import Cell, Table, verdict
from tests.console.shown import shown

TABLE = Table(
    ("", "stock", "kvlease"),
    [("wrong [answers]", "6", verdict(False)), (), ("a|b", "-", Cell("0", hint="none"))],
    title="A title that is longer than its table",
    caption="5 runs",
)


def test_a_table_is_shown_with_title_caption_and_sections() -> None:
    assert shown(TABLE).splitlines() == [
        "A title that is longer than its table",
        "",
        "                   stock   kvlease",
        " ─────────────────────────────────",
        " wrong [answers]       6    BROKEN",
        "",
        " a|b                   -         0",
        "",
        "5 runs",
        "",
    ]


def test_a_narrow_console_breaks_words_and_no_figures() -> None:
    lines = shown(Table(("", "figure"), [("many words that do not fit", "1,234,567 blocks")]), width=30).splitlines()
    assert sum("1,234,567 blocks" in line for line in lines) == 1
    assert sum("fit" in line for line in lines) == 1


def test_a_table_without_headings_has_none() -> None:
    assert [line for line in shown(Table(("", ""), [("kept", "3")])).splitlines() if line] == [" kept   3"]


def test_the_same_table_in_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "|  | stock | kvlease |",
        "|---|---|---|",
        "| wrong [answers] | 6 | BROKEN |",
        "| a\\|b | - | 0 |",
    ]


def test_verdicts_have_a_word_and_a_tone() -> None:
    assert verdict(True) == Cell("kept", "good")
    assert verdict(False, "met", "MISSED") == Cell("MISSED", "bad")
    assert verdict(None, unknown="not measured") == Cell("not measured", "open")
