"""The reports of a comparison: the table, the page and the JSON."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kvlease.console.files import write
from kvlease.fleet.compare import Comparison, ComparisonSetup, ScenarioOutcomes, Terms, describe_pace, pace
from kvlease.fleet.outcome import FleetOutcome
from kvlease.fleet.report import SIMPLIFIED, comparison_html, comparison_json, comparison_tables
from kvlease.fleet.rows import ROWS
from kvlease.fleet.scenarios import SCENARIOS
from kvlease.fleet.settings import Fleet
from kvlease.fleet.traffic.made import MadeTraffic
from kvlease.fleet.traffic.source import Capacity, Shape, Source
from kvlease.fleet.traffic.traces import Trace
from tests.console.shown import shown
from tests.fleet.outcomes import outcome, with_

COMMAND = "kvlease fleet compare --seed 7 --set 'reuse=<newest>'"
STOCK = outcome(
    "stock 30 s",
    "stock",
    requests={"right": 990, "wrong": 7, "gave_up": 3},
    blocks={"stranded_block_s": 12_345.0, "stranded_share": 0.0123},
    crashes=2,
)
LEASED = outcome("kvlease 30 s", "kvlease", crashes=2)


def comparison(*outcomes: FleetOutcome, source: Source | None = None) -> Comparison:
    setup = ComparisonSetup(Fleet(producers=3), source or MadeTraffic(rate=1.0), count=1000, seed=7)
    given = Terms(Shape(10.0, 2000.0, 200.0), Capacity(14.0, 20.0))
    return Comparison(
        setup, given, [ScenarioOutcomes(SCENARIOS["crashes"], 9.8, outcomes or (STOCK, LEASED))], wall_s=1.0
    )


@pytest.fixture(scope="module")
def page() -> str:
    return comparison_html(comparison(), COMMAND)


def row(text: str, label: str) -> list[str]:
    line = next(line for line in text.splitlines() if label in line)
    return re.split(r" {2,}", line.strip())


class Tags(HTMLParser):
    """A parser that notes whatever a page would fetch, and asserts that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_table_has_the_policies_side_by_side() -> None:
    text = shown(*comparison_tables(comparison()))
    assert row(text, "right answers") == ["right answers", "99 %", "100 %"]
    assert row(text, "wrong answers") == ["wrong answers, HTTP 200", "7", "0"]
    assert row(text, "stranded block-seconds") == ["stranded block-seconds", "12,345", "100"]
    assert row(text, "stranded memory, mean") == ["stranded memory, mean", "1.2 %", "0.1 %"]
    assert "2 crashes" in text
    assert "crashes: " in text


def test_the_page_says_what_the_table_says_and_needs_nothing_beside_it(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.fetched) == 1, "the plot of the one scenario"
    assert all(url.startswith("data:") for url in tags.fetched)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page).replace("HTTP 200", "")
    for words in (*(row.label for row in ROWS), "12,345", "stock 30 s", *SIMPLIFIED, "producer_blocks", "25,000"):
        assert words.replace("'", "&#39;") in page
    assert '<td class="bad">7</td>' in page


def test_the_page_has_the_command_that_plays_it_again_and_trusts_no_text_in_it(page: str) -> None:
    assert "kvlease fleet compare --seed 7" in page
    assert "<newest>" not in page
    assert "&lt;newest&gt;" in page


def test_the_same_figures_make_the_same_page(page: str) -> None:
    assert comparison_html(comparison(), COMMAND) == page


def test_a_trace_is_named_without_the_way_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvlease.fleet.report.over_time", lambda _: "data:,")
    page = comparison_html(comparison(source=Trace(tmp_path / "conv.jsonl")), COMMAND)
    assert "conv.jsonl, a recorded trace" in page
    assert str(tmp_path) not in page


def test_the_json_has_every_figure_and_what_it_takes_to_make_it_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outcome.json"
    write(path, comparison_json(comparison(), COMMAND))
    found = json.loads(path.read_text())
    assert (found["command"], found["seed"]) == (COMMAND, 7)
    assert found["fleet"]["producers"] == 3
    assert found["requests"]["synthetic"]["bursts"]["factor"] == 4.0
    (scenario,) = found["scenarios"]
    assert (scenario["name"], scenario["rate"]) == ("crashes", 9.8)
    assert scenario["faults"]["consumer_crashes_per_hour"] == SCENARIOS["crashes"].faults.consumer_crashes_per_hour
    stock, leased = scenario["outcomes"]
    assert (stock["policy"], stock["requests"]["wrong"]) == ("stock 30 s", 7)
    assert leased["timeline"]["part_s"] == 25.0


def test_it_says_whether_it_is_fast_enough() -> None:
    """A report says whether the slowest policy plays 3,333 requests a second: a million in five minutes."""
    slow, fast = with_(STOCK, cost={"requests_per_wall_s": 3300.0}), with_(LEASED, cost={"requests_per_wall_s": 9e9})
    assert pace([slow, fast]) == pytest.approx(303.0, abs=0.1)
    assert "5.1 minutes" in describe_pace([slow, fast])
    assert "NOT under" in describe_pace([slow, fast])
    assert "stock 30 s" in describe_pace([slow, fast])
    assert "NOT" not in describe_pace([fast])
