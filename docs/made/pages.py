"""The pages, the parts that each one has, and the text of a page with its parts as the code has them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from docs.made import (
    constants,
    deadlines,
    doctor,
    events,
    figures,
    messages,
    metrics,
    monitoring,
    planted,
    reference,
    router,
    router_figures,
    settings,
    states,
)

ROOT = Path(__file__).parents[2]
Parts = Mapping[str, Callable[[], Iterator[str]]]
"""The parts of a page: the name of each, and the function that yields its lines."""
BEGIN, END = "<!-- {}: from the code, by `make docs` -->\n", "<!-- end of {} -->\n"

DOCS = ROOT / "docs"
PAGES: Mapping[Path, Parts] = {
    DOCS / "operate" / "configure.md": {"settings": settings.settings},
    DOCS / "operate" / "dashboards.md": {"alerts": monitoring.alert_table},
    DOCS / "operate" / "doctor.md": {"findings": doctor.findings},
    DOCS / "operate" / "explain.md": {"event settings": events.settings, "events": events.kinds},
    DOCS / "operate" / "observe.md": {
        "metrics": metrics.metrics,
        "worries": metrics.worries,
        "parallel": metrics.parallel,
        "values": metrics.values,
        "buckets": metrics.buckets,
    },
    DOCS / "operate" / "router.md": {
        "failures": router.failures,
        "router settings": router_figures.settings,
        "router metrics": router_figures.metrics,
        "router worries": router_figures.worries,
        "router values": router_figures.values,
        "router buckets": router_figures.buckets,
        "routed requests": router.requests,
        "breaker": router.breaker,
    },
    DOCS / "proofs" / "planted.md": {"planted": planted.planted},
    DOCS / "protocol" / "messages.md": {"messages": messages.messages, "fields": messages.fields},
    DOCS / "protocol" / "transport.md": {"card": messages.card},
    DOCS / "protocol" / "reference.md": {"reference": reference.reference},
    DOCS / "protocol" / "states.md": {
        "lease": states.lease,
        "consumer": states.consumer,
        "producer": states.producer,
    },
    DOCS / "protocol" / "deadlines.md": {"deadlines": deadlines.deadlines},
    DOCS / "protocol" / "constants.md": {
        "timing": constants.timing,
        "wire": constants.wire,
        "kept": constants.kept,
    },
    **figures.PAGES,
}


def written(text: str, parts: Parts) -> str:
    """The page with its parts as the code has them. Raises ValueError where a part's place is missing."""
    for name, lines in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no place for the part {name!r}: it lies between {begin!r} and {end!r}")
        text = head + begin + "\n".join(lines()) + "\n" + end + tail
    return text
