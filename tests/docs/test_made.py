"""R38: the parts of the documentation that the code knows are as the code has them, and every name there exists."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docs.made.constants import kept, timing, wire
from docs.made.meanings import documented, meanings, without_requirements
from docs.made.pages import BEGIN, END, PAGES, ROOT, written
from docs.made.settings import settings
from docs.made.vectors import FILES
from kvlease.metrics.catalogue import HISTOGRAMS, METRICS
from kvlease.protocol import Cause, Lease, Timing
from kvlease.protocol.claims import ConsumerSession, ConsumerView
from kvlease.protocol.config import KEYS
from kvlease.protocol.states import ConsumerState, LeaseState, ProducerState
from kvlease.protocol.tracking import ProducerSession
from kvlease.vllm.params import ON_REJECT
from kvlease.vllm.settings import OTHERS
from tests.docs import pages

PARTS = [(page, name) for page, parts in PAGES.items() for name in parts]
CHANGED = "run `make docs`, and read what it changes"


def label(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_a_page_has_what_the_code_has(page: Path) -> None:
    text = page.read_text()
    assert written(text, PAGES[page]) == text, CHANGED


@pytest.mark.parametrize(("page", "name"), PARTS, ids=label)
def test_a_part_that_was_edited_by_hand_is_seen(page: Path, name: str) -> None:
    head, begin, rest = page.read_text().partition(BEGIN.format(name))
    part, end, tail = rest.partition(END.format(name))
    for edited in (part.rstrip()[:-3] + "x |\n", part.partition("\n")[2], part + "one more line\n"):
        assert edited != part
        assert written(head + begin + edited + end + tail, PAGES[page]) == page.read_text()


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_file_of_test_vectors_is_what_the_code_makes(file: Path) -> None:
    assert FILES[file]() == file.read_text(), f"other bytes are another version of the protocol; if so, {CHANGED}"


def test_there_is_no_other_file_of_test_vectors() -> None:
    assert set((ROOT / "docs/protocol/vectors").iterdir()) == FILES.keys()


def test_a_page_without_a_place_for_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the part 'settings'"):
        written("# Nothing here", {"settings": settings})


def test_a_meaning_is_the_docstring_below_a_name_in_one_line() -> None:
    said = meanings(Cause)
    assert said["AGED_OUT"] == "It reached its maximum age, renewed or not (R25)."
    assert without_requirements(said["ORPHANED"])[1] == "R18, R23"


def test_a_name_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ConsumerView: no docstring below .*deadline"):
        documented(ConsumerView)


def test_everything_begins_in_the_first_state_as_the_diagrams_say() -> None:
    assert Lease(1, 0.0, 0.0).state is next(iter(LeaseState))
    assert ConsumerSession(1, 1).state is next(iter(ConsumerState))
    assert ProducerSession(1, ("p", 1)).state is next(iter(ProducerState))


def test_every_label_says_what_it_can_say() -> None:
    for metric in METRICS.values():
        assert bool(metric.label) == bool(metric.values), metric.name
    assert METRICS["lease_ends"].values.keys() == set(Cause) | {"revoked"}


@pytest.mark.parametrize("metric", ["refused", "late"])
def test_whatever_is_refused_or_comes_late_is_explained(metric: str) -> None:
    """R38: the values of the metric are exactly the events that the code counts under its name."""
    rooms = ("protocol", "agent", "engine", "vllm")
    code = "\n".join(path.read_text() for room in rooms for path in (ROOT / "src/kvlease" / room).glob("*.py"))
    counted = set(re.findall(rf'"{metric}(?:\.|", ")(\w+)"', code))
    if metric == "refused":
        # A card is fetched, not sent: bytes that are no card count as no answer.
        counted |= set(re.findall(r'BadMessage\("(\w+)"', code)) - {"card"}
    assert METRICS[metric].values.keys() == counted


def by_hand(page: Path) -> str:
    """The text of a page without the parts that are made."""
    text = page.read_text()
    for name in PAGES.get(page, ()):
        head, _, rest = text.partition(BEGIN.format(name))
        text = head + rest.partition(END.format(name))[2]
    return text


def first_cells(part: Callable[[], Iterator[str]]) -> set[str]:
    return set(re.findall(r"^\| `(\w+)`", "\n".join(part()), re.MULTILINE))


@pytest.mark.parametrize("page", pages.PAGES, ids=label)
def test_every_setting_and_metric_that_a_page_names_exists(page: Path) -> None:
    text = by_hand(page)
    assert set(re.findall(r"\bkv_lease_\w+", text)) <= {*KEYS, *OTHERS, ON_REJECT}
    series = {f"{metric.shown}_{part}" for metric in HISTOGRAMS.values() for part in ("bucket", "count", "sum")}
    shown = {metric.shown for metric in METRICS.values()} | series
    assert {f"kvlease:{name}" for name in re.findall(r"\bkvlease:(\w+)", text)} <= shown
    for name, label, value in re.findall(r'`(\w+)\{(\w+)="(\w+)"\}', text):
        assert METRICS[name].label == label
        assert value in METRICS[name].values


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_constant_that_a_page_names_is_in_its_tables(page: Path) -> None:
    known = first_cells(timing) | first_cells(wire) | first_cells(kept)
    assert set(meanings(Timing)) <= known
    named = set(re.findall(r"`([A-Z]{2,}(?:_[A-Z]+)+|\w+_s)`", by_hand(page)))
    assert {name for name in named if not name.startswith(("VLLM_", "KVLEASE_"))} <= known
