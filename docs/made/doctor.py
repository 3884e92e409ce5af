"""The findings of `kvlease doctor` (`kvlease.doctor.table`)."""

from collections.abc import Iterator

from docs.made.markdown import code, table
from kvlease.doctor.table import TABLE


def findings() -> Iterator[str]:
    """Every finding: what it is, how much it weighs, and why it matters."""
    rows = (
        (code(check.id), str(check.severity), looked_at, check.finds, check.why)
        for looked_at, checks in TABLE.items()
        for check in checks
    )
    return table(("finding", "is", "of", "what was found", "why it matters"), rows)
