"""R38: the guide's tables are those of the code, and every event that is counted has a name there."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from kvlease.vllm.catalogue import COUNTERS, GAUGES, VALUES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_guide_has_what_the_code_has(tables: ModuleType) -> None:
    page = tables.GUIDE.read_text()
    assert tables.written(page) == page, "run `make docs`"


def test_a_table_that_was_edited_by_hand_is_seen(tables: ModuleType) -> None:
    page = tables.GUIDE.read_text().replace("Leases granted.", "Leases.")
    assert tables.written(page) != page


def test_a_page_without_a_place_for_a_table_is_refused(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="no place for the table 'metrics'"):
        tables.written("# Nothing here")


def test_every_label_says_what_it_can_say() -> None:
    labelled = {name for name, (label, _) in (COUNTERS | GAUGES).items() if label}
    assert labelled == VALUES.keys()


@pytest.mark.parametrize("prefix", ["refused", "late"])
def test_whatever_the_protocol_refuses_or_finds_late_is_explained(prefix: str) -> None:
    """Every event that lessor, lessee and agent count under these prefixes is a value of the metric, and no other."""
    code = "\n".join(path.read_text() for path in (ROOT / "src/kvlease").glob("[par]*/*.py"))
    counted = set(re.findall(rf'"{prefix}\.(\w+)"', code))
    assert counted <= VALUES[prefix].keys()
    kinds = set(re.findall(r'BadMessage\("(\w+)"', code)) - {"card"} if prefix == "refused" else set()
    elsewhere = (
        {"bad_reference", "bad_params", "block_size", "bad_notice", "handshake"} if prefix == "refused" else set()
    )
    assert VALUES[prefix].keys() == counted | kinds | elsewhere
