"""The rows, the goal and the plots that are made of crashes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from proof.bench.engines.crash_scenario import ENOUGH, STAYS_S, CrashRun, CrashScenario
from proof.bench.frame.figures import Curves, FigureRow, Goal, Spread

FLAT, STOCK, OURS = "flat 480 s", "stock", "kvlease"
GOAL_S = 3.0

Runs = Mapping[str, Sequence[CrashRun]]
"""The runs, by the way to hold blocks."""
_Figure = Callable[[CrashRun], float]


def rows(runs: Runs) -> list[FigureRow]:
    """kvlease and stock with a lease of the same term; the flat timeout, which is stock as well, in rows of its own."""
    found = []
    for what, unit, of in (
        ("P is back at its rate after", "s", back_s),
        ("prefills after the crash, of what the rate before would give", "%", lambda run: 100 * run.share_after),
        ("longest time without a prefill", "s", lambda run: run.longest_gap_s),
        ("rate once P is back, of the rate before", "%", lambda run: 100 * run.rate_then),
        ("rate before the crash", "prefills/s", lambda run: run.rate),
        ("a prefill alone", "ms", lambda run: 1000 * run.prefill_s),
        ("D's answers to as many as it has seats", "ms", lambda run: 1000 * run.answer_s),
    ):
        found.append(_row(what, unit, of, runs.get(OURS, ()), runs.get(STOCK, ())))
        if FLAT in runs:
            found.append(_row(f"{what}, {FLAT}", unit, of, (), runs[FLAT]))
    return found


def back_s(run: CrashRun) -> float:
    """The time until P was back; the time for which it was watched, where it was not back within that."""
    return run.after_s if run.back_after_s is None else run.back_after_s


def _row(what: str, unit: str, of: _Figure, ours: Sequence[CrashRun], stock: Sequence[CrashRun]) -> FigureRow:
    left, right = [of(run) for run in ours], [of(run) for run in stock]
    # Crashes are paired in their order, as far as both sides have them.
    ratios = [a / b for a, b in zip(left, right, strict=False) if b]
    return FigureRow(what, unit, _spread(left), _spread(right), _spread(ratios))


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if values else None


def goals(runs: Runs) -> list[Goal]:
    """The goal: P is back within 3 s, each time."""
    ours = [back_s(run) for run in runs[OURS]]
    found = "; ".join(f"{arm}: {_describe(crashes)}" for arm, crashes in runs.items())
    return [Goal(f"P back at {ENOUGH:.0%} of its rate within {GOAL_S:g} s", found, max(ours) <= GOAL_S)]


def _describe(crashes: Sequence[CrashRun]) -> str:
    return ", ".join(
        f"not within {run.after_s:g} s" if run.back_after_s is None else f"{run.back_after_s:.2f} s" for run in crashes
    )


def curves(runs: Runs) -> list[Curves]:
    """Throughput and blocks held over time, with the crash at 0."""
    rate = {arm: _over_time(crashes, _shares) for arm, crashes in runs.items()}
    held = {arm: _over_time(crashes, _held) for arm, crashes in runs.items()}
    return [
        Curves("seconds after the crash", "prefills in each second, % of the rate before", rate, limit=100 * ENOUGH),
        Curves("seconds after the crash", "P's KV cache blocks that are not free", held),
    ]


def _shares(run: CrashRun) -> list[tuple[float, float]]:
    return [(at, 100 * count / run.rate) for at, count in run.per_second()]


def _held(run: CrashRun) -> list[tuple[float, float]]:
    """The blocks held by time, to the half second, which is about how often they are sampled."""
    return [(round(2 * at) / 2, blocks) for at, blocks in run.held if -run.before_s <= at < run.after_s]


def _over_time(
    crashes: Sequence[CrashRun], of: Callable[[CrashRun], list[tuple[float, float]]]
) -> list[tuple[float, Spread]]:
    by_time: dict[float, list[float]] = {}
    for at, value in chain.from_iterable(of(run) for run in crashes):
        by_time.setdefault(at, []).append(value)
    return [(at, Spread.of(by_time[at])) for at in sorted(by_time)]


def notes(runs: Runs, scenario: CrashScenario) -> list[str]:
    """Describes what was played, and how the moment is found at which P is back."""
    found = [
        f"{scenario.clients} clients, one request after the other: prompts of {scenario.prompt_tokens} tokens through "
        f"P to a D with {scenario.seats} seats, answers of {scenario.answer_tokens}. The rest waits in D's queue with "
        f"leases of {scenario.lease_s:g} s; P's {scenario.producer_blocks - 1} blocks hold {scenario.leases_that_fit} "
        "prompts, so its memory is full and its rate before the crash is D's. D is killed (SIGKILL), and the clients "
        "send their requests again, to P and then to another D, which runs and is idle until then.",
        f"P is back from the moment on after which, at every later one within {STAYS_S:g} s, it has done at least "
        f"{ENOUGH:.0%} of what its rate before the crash would give, but for the few prefills by which it fell short "
        "of that before the crash, too.",
        f"Sent again, each time: {', '.join(str(run.again) for crashes in runs.values() for run in crashes)} requests; "
        "even where the other D could read what the dead one had leased, as long as P did not need the memory (R23).",
    ]
    late = [arm for arm, crashes in runs.items() if any(run.back_after_s is None for run in crashes)]
    if late:
        found.append(f"Not back within the time watched, which is what their figure shows: {', '.join(late)}.")
    return found
