"""The rows and goals that the turns of pairs of engines give: ratios within a turn, and the noise's floor."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proof.bench.engines.client import Block, ClientTraffic
from proof.bench.frame.figures import Curves, FigureRow, Goal, Spread
from proof.bench.frame.pairs import paired

STOCK, AGAIN, OURS = "stock", "stock again", "kvlease"
ARMS = (STOCK, AGAIN, OURS)
ALLOWED = 0.01
"""The goal: no worse than stock by more than this share."""
_TWO_SIGMA = 1.96


@dataclass(frozen=True)
class TurnSample:
    """One pair's share of a turn."""

    throughput: float
    """Requests per second."""
    first_token_ms: float
    """The mean of the requests. Under load their median jumps by a third, depending on which of them share a step."""
    token_ms: float
    """The mean of the requests' own means, of every token after the first."""
    producer_ms: float
    """Processor time per request, of all processes of P."""
    decoder_ms: float
    """Processor time per request, of all processes of D."""


@dataclass(frozen=True)
class Turn:
    """The same traffic through all three pairs, one after the other."""

    start: int
    """The number of the start of engines that the turn belongs to."""
    traffic: ClientTraffic
    samples: Mapping[str, TurnSample]
    """The samples, by arm."""
    different: Mapping[str, int]
    """Answers that are not stock's, token by token; by arm."""


@dataclass(frozen=True)
class Measure:
    """A figure of a sample. `sign` is 1 where more is worse, -1 where less is."""

    name: str
    unit: str
    sign: int
    of: Callable[[TurnSample], float]


MEASURES = (
    Measure("throughput", "requests/s", -1, lambda s: s.throughput),
    Measure("time to first token", "ms", 1, lambda s: s.first_token_ms),
    Measure("time per token", "ms", 1, lambda s: s.token_ms),
    Measure("P's processor time a request", "ms", 1, lambda s: s.producer_ms),
    Measure("D's processor time a request", "ms", 1, lambda s: s.decoder_ms),
)
GOALS = MEASURES[:3]
"""The measures that the goal names. Processor time is measured, too: it varies less where nobody spins, on D."""


def sample_of(block: Block, answer_tokens: int, processor_s: tuple[float, float]) -> TurnSample:
    """Returns the figures of a block of traffic; `processor_s` is what P and D took for it."""
    count = len(block.seen)
    return TurnSample(
        throughput=count / block.wall_s,
        first_token_ms=1e3 * statistics.fmean(seen.first_token_s for seen in block.seen),
        token_ms=1e3 * statistics.fmean(seen.token_s(answer_tokens) for seen in block.seen),
        producer_ms=1e3 * processor_s[0] / count,
        decoder_ms=1e3 * processor_s[1] / count,
    )


def rows(turns: Sequence[Turn]) -> list[FigureRow]:
    """The rows of each traffic, then the ratios of all traffic together, and stock against stock beside them."""
    found = [row for traffic in _traffics(turns) for row in _rows_of(traffic, turns)]
    for measure in MEASURES:
        found.append(FigureRow(f"{measure.name}, all traffic", "", None, None, Spread.of(ratios(turns, measure, OURS))))
        again = Spread.of(ratios(turns, measure, AGAIN))
        found.append(FigureRow(f"{measure.name}, stock against stock", "", None, None, again))
    return found


def _traffics(turns: Sequence[Turn]) -> list[ClientTraffic]:
    return list(dict.fromkeys(turn.traffic for turn in turns))


def _rows_of(traffic: ClientTraffic, turns: Sequence[Turn]) -> list[FigureRow]:
    own = [turn.samples for turn in turns if turn.traffic == traffic]
    found = [
        paired(
            f"{measure.name}, {traffic.name}",
            measure.unit,
            [measure.of(samples[OURS]) for samples in own],
            [measure.of(samples[STOCK]) for samples in own],
        )
        for measure in MEASURES
    ]
    tokens = paired(
        f"output, {traffic.name}",
        "tokens/s",
        [samples[OURS].throughput * traffic.answer_tokens for samples in own],
        [samples[STOCK].throughput * traffic.answer_tokens for samples in own],
    )
    return [found[0], tokens, *found[1:]]


def ratios(turns: Sequence[Turn], measure: Measure, arm: str) -> list[float]:
    """The ratios of an arm to stock, turn by turn."""
    return [measure.of(turn.samples[arm]) / measure.of(turn.samples[STOCK]) for turn in turns]


def by_start(turns: Sequence[Turn], measure: Measure, arm: str) -> list[float]:
    """The ratios of an arm to stock, the median of each start: as many values as are independent.

    Two pairs of the same engines differ by some per cent for as long as they live, whatever the number of turns.
    """
    starts = sorted({turn.start for turn in turns})
    return [statistics.median(ratios([t for t in turns if t.start == start], measure, arm)) for start in starts]


def goals(turns: Sequence[Turn]) -> list[Goal]:
    """The goals, one for each measure that the goal names."""
    return [_goal(turns, measure) for measure in GOALS]


def _goal(turns: Sequence[Turn], measure: Measure) -> Goal:
    ours = by_start(turns, measure, OURS)
    found = f"{describe_ratio(ours)}; stock against stock {describe_ratio(by_start(turns, measure, AGAIN))}"
    met = within(ours, measure.sign)
    if met is None:
        found += "; not enough to tell"
    return Goal(f"{measure.name} within {ALLOWED:.0%} of stock's", found, met)


def within(values: Sequence[float], sign: int) -> bool | None:
    """Tells whether the median is worse by no more than the allowed share; None where it is not known well enough."""
    interval = median_interval(values)
    if interval is None:
        return None
    worse = [sign * (end - 1) > ALLOWED for end in interval]
    return not worse[0] if worse[0] == worse[1] else None


def describe_ratio(values: Sequence[float]) -> str:
    """The median ratio of the starts, and the bounds within which it is known."""
    text = f"ratio {statistics.median(values):.3f}"
    interval = median_interval(values)
    if interval is None:
        return f"{text} ({len(values)} starts)"
    return f"{text} (known to {interval[0]:.3f} to {interval[1]:.3f} by {len(values)} starts)"


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval in which the true median lies, at 95 %: between two of the values, by their ranks alone.

    None for fewer than six values, which say nothing at that level.
    """
    count = len(values)
    if count < 6:
        return None
    ordered = sorted(values)
    # The number of values below the median is that of heads in `count` throws of a coin.
    below = max(0, math.floor((count - _TWO_SIGMA * math.sqrt(count)) / 2))
    return ordered[below], ordered[count - 1 - below]


def describe_answers(turns: Sequence[Turn]) -> str:
    """Describes whether all arms gave the same answers: wrong ones may be fast."""
    asked = sum(turn.traffic.requests for turn in turns)
    different = {arm: sum(turn.different[arm] for turn in turns) for arm in (AGAIN, OURS)}
    if not any(different.values()):
        return f"All three gave the same {asked} answers, by token ids."
    told = ", ".join(f"{count} of {arm}'s" for arm, count in different.items())
    return f"Of {asked} answers, {told} were not the same as stock's, by token ids."


def curves(turns: Sequence[Turn]) -> list[Curves]:
    """The ratio of throughput in the order of the turns, which shows drift and outliers."""
    throughput = MEASURES[0]

    def series(arm: str) -> list[tuple[float, Spread]]:
        return [(float(n), Spread.of([r])) for n, r in enumerate(ratios(turns, throughput, arm), start=1)]

    against = {f"{OURS} / {STOCK}": series(OURS), f"{STOCK} / {STOCK}": series(AGAIN)}
    return [Curves(x="turn", y="throughput, ratio to stock", series=against, limit=1 - ALLOWED)]
