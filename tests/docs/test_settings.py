"""R10: the defaults that the documentation gives are those that `resolve` derives."""

import re
from fractions import Fraction

import pytest

from docs.made.settings import settings
from kvlease.admin.settings import LISTEN
from kvlease.protocol import resolve
from kvlease.protocol.config import COMPARE_MEDIA, FENCE_SLOTS, KEYS

ROW = re.compile(r"\| `(\w+)` \| ([^|]+) \| ([^|]+) \|")
FORMULA = re.compile(
    r"(?P<number>[\d./]+)(?: (?:times|of) the (?P<times>\w+))?(?:, at (?:least (?P<least>\d+)|most the (?P<most>\w+)))?"
)
ROWS = {key: (default, allowed) for key, default, allowed in ROW.findall("\n".join(settings()))}
NUMBERS = [key for key in ROWS if key not in (FENCE_SLOTS, COMPARE_MEDIA, LISTEN)]


def test_every_setting_is_documented() -> None:
    assert tuple(ROWS) == (*KEYS, LISTEN)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("given", [{}, {"duration": 1}, {"duration": 480}, {"duration": 60, "extension": 9.5}])
def test_a_default_is_what_its_row_says(key: str, given: dict[str, float]) -> None:
    config = resolve({f"kv_lease_{name}": value for name, value in given.items()})
    setting = key.removeprefix("kv_lease_")
    formula = FORMULA.fullmatch(ROWS[key][0])
    assert formula is not None, ROWS[key][0]
    said = float(Fraction(formula["number"]))
    if formula["times"]:
        said *= getattr(config, formula["times"] + "_s")
    if formula["least"]:
        said = max(said, float(formula["least"]))
    if formula["most"]:
        said = min(said, getattr(config, formula["most"] + "_s"))
    assert getattr(config, f"{setting}_s") == pytest.approx(given.get(setting, said))


def test_the_defaults_of_what_is_no_duration_are_what_their_rows_say() -> None:
    config = resolve({})
    assert (config.fence_slots, ROWS[FENCE_SLOTS][0]) == (None, "one for each KV cache block")
    assert (config.compare_media, ROWS[COMPARE_MEDIA][0]) == (True, "`true`")
