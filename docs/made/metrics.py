"""The metrics that an engine shows on /metrics (`kvlease.metrics.catalogue`)."""

from collections.abc import Iterator

from docs.made.markdown import code, number, table
from docs.made.meanings import documented, without_requirements
from kvlease.metrics.catalogue import METRICS
from kvlease.metrics.metric import Counted, Kind, Metric
from kvlease.protocol import Cause


def metrics() -> Iterator[str]:
    """Every metric, with its type, its label, what it means, and what has the like in vLLM."""
    rows = (
        (code(metric.shown), metric.kind, code(metric.label), metric.meaning, metric.like)
        for metric in METRICS.values()
    )
    return table(("metric", "type", "label", "meaning", "like"), rows)


def worries() -> Iterator[str]:
    """The look of each metric in good times, and the one to worry about."""
    return table(("metric", "in good times", "worry when"), _worries())


def _worries() -> Iterator[tuple[str, str, str]]:
    for name, metric in METRICS.items():
        if metric.good or metric.worry:
            yield code(name), metric.good, metric.worry
        for value, said in metric.values.items():
            if said.good or said.worry:
                yield code(f'{name}{{{metric.label}="{value}"}}'), said.good, said.worry


def parallel() -> Iterator[str]:
    """The meaning of each metric with several workers, and with several data-parallel ranks."""
    rows = ((code(metric.shown), _counted(metric), metric.ranks) for metric in METRICS.values())
    return table(("metric", "with tensor parallelism counted", "over data-parallel ranks take the"), rows)


def _counted(metric: Metric) -> str:
    others = [value for value, said in metric.values.items() if said.counted not in (None, metric.counted)]
    if not others:
        return metric.counted
    other = next(counted for counted in Counted if counted is not metric.counted)
    return f"{metric.counted}; {', '.join(map(code, others))} {other}"


def buckets() -> Iterator[str]:
    """The bounds of each histogram's buckets."""
    rows = (
        (code(metric.shown), " ".join(map(number, metric.buckets)))
        for metric in METRICS.values()
        if metric.kind is Kind.HISTOGRAM
    )
    return table(("histogram", "bounds of its buckets, in seconds"), rows)


def values() -> Iterator[str]:
    """The values of each label."""
    causes = _causes()
    named: dict[tuple[str, str], list[str]] = {}
    for name, metric in METRICS.items():
        for value, said in metric.values.items():
            named.setdefault((value, said.meaning or causes[value]), []).append(name)
    rows = ((", ".join(map(code, names)), code(value), meaning) for (value, meaning), names in named.items())
    return table(("metric", "its label", "is"), rows)


def _causes() -> dict[str, str]:
    said = documented(Cause)
    return {cause: _part_of_a_sentence(without_requirements(said[cause.name])[0]) for cause in Cause}


def _part_of_a_sentence(text: str) -> str:
    return text[0].lower() + text[1:].removesuffix(".")
