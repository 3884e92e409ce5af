"""The rows, goals and notes that turns of watched and unwatched engines give."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proof.bench.engines.client import ClientTraffic
from proof.bench.engines.figures import (
    ALLOWED,
    MEASURES,
    Measure,
    TurnSample,
    describe_ratio,
    median_interval,
    within,
)
from proof.bench.frame.figures import Curves, FigureRow, Goal, Spread
from proof.bench.frame.pairs import paired

ON, OFF = "everything on", "everything off"
SIDES = (ON, OFF)


@dataclass(frozen=True)
class WatchedTurn:
    """The same traffic through both pairs, one after the other."""

    start: int
    """The number of the start of engines that the turn belongs to."""
    samples: Mapping[str, TurnSample]
    """The samples, by side."""
    different: int
    """Answers that are not the same on both sides, token by token."""


@dataclass
class Heard:
    """The amount that watched engines have told, in all turns."""

    leases: int = 0
    pages: int = 0
    page_bytes: int = 0
    event_bytes: int = 0
    span_bytes: int = 0


def rows(turns: Sequence[WatchedTurn]) -> list[FigureRow]:
    """A row for each measure, turn by turn, and one of the starts' medians for the goal."""
    found = [
        paired(
            measure.name,
            measure.unit,
            [measure.of(turn.samples[ON]) for turn in turns],
            [measure.of(turn.samples[OFF]) for turn in turns],
        )
        for measure in MEASURES
    ]
    return [*found, FigureRow("throughput, start by start", "", None, None, Spread.of(by_start(turns, MEASURES[0])))]


def by_start(turns: Sequence[WatchedTurn], measure: Measure) -> list[float]:
    """The ratios of on to off, the median of each start: as many values as are independent."""
    ratios: dict[int, list[float]] = {}
    for turn in turns:
        ratio = measure.of(turn.samples[ON]) / measure.of(turn.samples[OFF])
        ratios.setdefault(turn.start, []).append(ratio)
    return [statistics.median(of_start) for of_start in ratios.values()]


def goals(turns: Sequence[WatchedTurn]) -> list[Goal]:
    """The goal: throughput with everything on is no less than without by more than the allowed share."""
    throughput = MEASURES[0]
    ratios = by_start(turns, throughput)
    met, found = within(ratios, throughput.sign), describe_ratio(ratios)
    if met is None:
        found += "; cannot be told" if median_interval(ratios) else "; too few starts to tell"
    return [Goal(f"throughput with everything on within {ALLOWED:.0%} of that with everything off", found, met)]


def curves(turns: Sequence[WatchedTurn]) -> list[Curves]:
    """The ratio of throughput in the order of the turns, which shows drift and outliers."""
    of = MEASURES[0].of
    ratios = [of(turn.samples[ON]) / of(turn.samples[OFF]) for turn in turns]
    points = [(float(number), Spread.of([ratio])) for number, ratio in enumerate(ratios, start=1)]
    return [Curves("turn", "throughput, ratio of on to off", {f"{ON} / {OFF}": points}, limit=1 - ALLOWED)]


def notes(turns: Sequence[WatchedTurn], traffic: ClientTraffic, heard: Heard) -> list[str]:
    """Describes what was on, what was told, and how it was measured."""
    starts = len({turn.start for turn in turns})
    different = sum(turn.different for turn in turns)
    same = "the same answers" if not different else f"{different} answers that are not the same"
    return [
        "On, in P and D: events of every lease in a directory; the agent's own listener, scraped once a second; "
        "kvlease's routes in vLLM's API server, polled once a second as `kvlease top` does; spans of every request, "
        "kvlease's and vLLM's own, to a collector over gRPC. Off: none of it. Histograms are filled in both.",
        f"Everything was on: {heard.leases:,} leases told {heard.event_bytes / 1e6:.1f} MB of events and "
        f"{heard.span_bytes / 1e6:.1f} MB of spans, and {heard.pages:,} pages of {heard.page_bytes / 1e6:.1f} MB were "
        "read.",
        f"{traffic.name}, {traffic.clients} clients in a closed loop, {traffic.requests} requests a turn; "
        f"{len(turns)} turns of {starts} starts of both pairs, with the same prompts, each going first as often, and "
        f"{same} by token ids. Ratios are within a turn; the goal goes by the medians of the starts, since two pairs "
        "of the same engines differ by some per cent for as long as they live.",
        "Whoever watches runs on the engines' two cores here, the client too: what they take is in the figures. In a "
        "cluster it is elsewhere.",
        "Books: both agents by hand, no threads and no network, 5,000 leases a second; what the journal's thread does "
        "is counted as well.",
    ]
