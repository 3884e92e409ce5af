"""The metrics that an engine shows on /metrics (`kvlease.vllm.catalogue`)."""

from collections.abc import Iterator

from docs.made.markdown import code, table
from docs.made.meanings import documented, without_requirements
from kvlease.protocol import Cause
from kvlease.vllm.catalogue import COUNTERS, GAUGES, VALUES


def metrics() -> Iterator[str]:
    """Every metric, with its type, its label and what it means."""
    rows = (
        (code(f"kvlease:{name}{suffix}"), kind, code(label), meaning)
        for kind, suffix, catalogue in (("gauge", "", GAUGES), ("counter", "_total", COUNTERS))
        for name, (label, meaning) in catalogue.items()
    )
    return table(("metric", "type", "label", "meaning"), rows)


def values() -> Iterator[str]:
    """The values of each label."""
    rows = (
        (code(name), code(value), said)
        for name, values in ({"lease_ends": _causes()} | VALUES).items()
        for value, said in values.items()
    )
    return table(("metric", "its label", "is"), rows)


def _causes() -> dict[str, str]:
    said = documented(Cause)
    return {cause: _part_of_a_sentence(without_requirements(said[cause.name])[0]) for cause in Cause}


def _part_of_a_sentence(text: str) -> str:
    return text[0].lower() + text[1:].removesuffix(".")
