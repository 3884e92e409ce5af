"""The runs in which planted bugs were found when they were last hunted, kept beside them in `found.json`."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("found.json")


class Hunted(msgspec.Struct, frozen=True):
    """The hunts for one planted bug."""

    commit: str
    """The commit of the code that was hunted in."""
    runs: list[int | None]
    """The run of each range of seeds that found it; None where none did within the stated runs."""


def found() -> dict[str, Hunted]:
    """Returns the hunts by the names of the bugs."""
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Hunted])


def keep(hunted: Mapping[str, Hunted], order: Mapping[str, object]) -> None:
    """Keeps these hunts in the place of earlier ones for the same bugs; `order` has the names of all bugs."""
    known = {**found(), **hunted}
    text = msgspec.json.encode({name: known[name] for name in order if name in known})
    FILE.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
