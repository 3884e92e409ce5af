"""The keys of a reference to a lease, as it travels in `kv_transfer_params` (`kvlease.protocol.lease`)."""

from collections.abc import Iterator

import kvlease.protocol.lease
from docs.made.markdown import code, table
from docs.made.meanings import documented, meanings
from kvlease.protocol import Fingerprint, LeaseRef
from kvlease.protocol.lease import RANGES, REF_VERSION


def reference() -> Iterator[str]:
    """Every key of a reference, in JSON."""
    keys = LeaseRef(0, 1, 0, 1, Fingerprint(1, 0)).to_params()
    said = {"version": meanings(kvlease.protocol.lease)["REF_VERSION"]} | documented(LeaseRef)
    said |= {f"prompt_{part}": meaning for part, meaning in documented(Fingerprint).items()}
    return table(("key", "JSON", "meaning"), ((code(key), _json(key), said[key]) for key in keys))


def _json(key: str) -> str:
    if key == "version":
        return f"the number {REF_VERSION}"
    if key in RANGES:
        return "a whole number from {:,} to {:,}".format(*RANGES[key])
    return "16 lower-case hex digits"
