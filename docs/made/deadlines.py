"""The deadlines of a producer, as rows. `tests/docs/test_deadlines.py` plays each to a lessor, which has to keep it."""

from collections.abc import Iterator
from typing import NamedTuple

from docs.made.markdown import code, table


class Deadline(NamedTuple):
    """One deadline of a producer."""

    of: str
    """The thing that ends, or begins."""
    at: str
    """The formula, made of moments, settings (`kv_lease_…`) and fields of `Timing`."""
    then: str
    """The thing that happens at the deadline."""


MOMENTS = {
    "granted": "The prefill is done.",
    "renewed": "The last Renew of the consumer, or a later Hello, has arrived.",
    "heard": "The last heartbeat of a stock consumer that names the lease has arrived.",
    "reported": "The transport says that the consumer's process is dead.",
    "greeted": "Another Hello of the consumer has arrived.",
    "rested": "The last message has arrived, or the last claim has ended, by whatever cause.",
    "spoken": "The producer has last said something to the consumer.",
}
"""The moments from which deadlines count."""

DEADLINES = (
    Deadline("a lease that nobody has claimed", "granted + kv_lease_duration", "it lapses, expired"),
    Deadline(
        "a lease that a stock consumer keeps",
        "max(granted + kv_lease_duration, heard + kv_lease_extension)",
        "it lapses, expired",
    ),
    Deadline(
        "a claim whose session has fallen silent",
        "renewed + kv_lease_extension",
        "it is void; a lease whose term still runs is granted as before",
    ),
    Deadline(
        "a lease whose sessions have all fallen silent",
        "max(granted + kv_lease_duration, renewed + kv_lease_extension)",
        "it lapses, expired",
    ),
    Deadline(
        "a claim that was not stated again after another Hello",
        "greeted + kv_lease_extension",
        "it is void; a lease whose term still runs is granted as before",
    ),
    Deadline(
        "a lease whose last consumer is dead",
        "min(renewed + kv_lease_extension, reported + kv_lease_orphan_grace)",
        "it lapses, orphaned, unless the same incarnation has said Hello, or another has claimed it",
    ),
    Deadline(
        "any lease", "granted + kv_lease_max_age", "it lapses, aged out, renewed or not, and cannot be claimed again"
    ),
    Deadline(
        "a session without claims",
        "rested + max(kv_lease_extension, session_idle_s)",
        "it is forgotten; until then its consumer may claim again",
    ),
    Deadline(
        "a session without claims whose consumer is dead",
        "min(rested + max(kv_lease_extension, session_idle_s), reported + kv_lease_orphan_grace)",
        "it is forgotten, unless the same incarnation has said Hello",
    ),
    Deadline("a silence while the consumer claims a lease", "spoken + kv_lease_probe_interval", "a Probe is sent"),
)


def deadlines() -> Iterator[str]:
    """Every deadline, and the moments from which they count."""
    yield from table(("of", "is over at", "then"), ((row.of, code(row.at), row.then) for row in DEADLINES))
    yield ""
    yield from table(("moment", "when"), ((code(name), when) for name, when in MOMENTS.items()))
