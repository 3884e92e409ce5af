"""The rows, the goals and the notes that are made of what was found."""

from collections.abc import Callable, Sequence

from proof.bench.ends.calm import PROMPT_TOKENS
from proof.bench.ends.found import ArmFound, Found, ReadOutcomes
from proof.bench.ends.late import LATE_S
from proof.bench.ends.waiting import LEASES, SHUTDOWN_TIMEOUT_S
from proof.bench.frame.figures import FigureRow, Goal, Spread
from proof.bench.frame.pairs import paired

DEATH_S = 0.5
IDLE_SHARE = 5.0
PAUSE_S = 1.0

_Values = Callable[[ArmFound], Sequence[float]]
_Reads = Callable[[ArmFound], ReadOutcomes]
READS: dict[str, _Reads] = {
    f"read {LATE_S:g} s after the prefill, P has free memory": lambda arm: arm.late,
    "sent again after D let go of it": lambda arm: arm.after_abort,
    "sent again after it was read": lambda arm: arm.after_read,
    "read late, P has reused the memory": lambda arm: arm.reused,
    "read after a pause of P": lambda arm: arm.after_pause,
    "read after a pause of P that resets its cache": lambda arm: arm.after_reset,
    "read from a P that was told to end": lambda arm: arm.after_stay,
}
"""The kinds of reads, in the order of the rows."""


def rows(found: Found) -> list[FigureRow]:
    """All rows: times and shares first, then what came of reads."""
    ours, stock = found["kvlease"], found["stock"]
    made = []
    for workers in ours.calm:
        of, theirs = ours.calm[workers], stock.calm[workers]
        with_tp = f"P with TP {workers}"
        made.append(paired(f"blocks out of the pool after P's answer, {with_tp}", "ms", of.held_ms, theirs.held_ms))
        made.append(_row(f"… after D's answer, {with_tp}", "ms", of.after_ms, theirs.after_ms))
    for what, unit, values in (
        ("D is killed: P can use the memory after", "s", lambda arm: arm.usable_s),
        (f"P's processor time, {LEASES} leases wait, nothing runs", "% of a core", lambda arm: arm.waits_share),
        ("… with nothing out", "% of a core", lambda arm: arm.rests_share),
        ("pause of P, leases out to a paused D", "s", lambda arm: arm.pause_s),
        ("… that resets its cache", "s", lambda arm: arm.reset_s),
        ("P told to end: gone after the last lease was read", "s", lambda arm: arm.ended_s),
    ):
        made.append(_of(what, unit, values, ours, stock))
    for what, reads in READS.items():
        made += _reads_rows(what, reads(ours), reads(stock))
    return made


def _of(what: str, unit: str, values: _Values, ours: ArmFound, stock: ArmFound) -> FigureRow:
    return _row(what, unit, values(ours), values(stock))


def _row(what: str, unit: str, ours: Sequence[float], stock: Sequence[float]) -> FigureRow:
    # Where some are 0 or less, or one side was not measured, there is no ratio.
    pairs = list(zip(ours, stock, strict=False))
    ratio = Spread.of([a / b for a, b in pairs]) if pairs and min(map(min, pairs)) > 0 else None
    return FigureRow(what, unit, _spread(ours), _spread(stock), ratio)


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread.of(values) if values else None


def _reads_rows(what: str, ours: ReadOutcomes, stock: ReadOutcomes) -> list[FigureRow]:
    """A row of those that are right from P's memory, and one for each other outcome that there was."""
    made = []
    for name in ("read", "computed", "wrong", "failed"):
        of, theirs = getattr(ours, name), getattr(stock, name)
        if name == "read" or of or theirs:
            text = f"{what}: right" if name == "read" else f"… {_OTHERWISE[name]}"
            made.append(_row(text, f"of {ours.count}", [float(of)], [float(theirs)]))
    return made


_OTHERWISE = {"computed": "right, and computed again", "wrong": "wrong", "failed": "failed"}


def goals(found: Found) -> list[Goal]:
    """The goals, in the order of the table that they come from."""
    ours, stock = found["kvlease"], found["stock"]
    return [
        *(_calm_goal(workers, ours, stock) for workers in ours.calm),
        *(_all_read(what, READS[what](ours), READS[what](stock)) for what in list(READS)[:3]),
        _reused_goal(ours.reused, stock.reused),
        _below(f"D is killed: P can use the memory within {DEATH_S:g} s", "s", DEATH_S, ours.usable_s, stock.usable_s),
        _below(
            f"P's processor time while leases wait: under {IDLE_SHARE:g} % of a core",
            "%",
            IDLE_SHARE,
            ours.waits_share,
            stock.waits_share,
        ),
        _below(
            f"a pause of P with leases out takes less than {PAUSE_S:g} s",
            "s",
            PAUSE_S,
            [*ours.pause_s, *ours.reset_s],
            [*stock.pause_s, *stock.reset_s],
        ),
        _none_wrong("what is read after a pause is right, or refused", ours, stock),
        _stays_goal(ours, stock),
    ]


def _calm_goal(workers: int, ours: ArmFound, stock: ArmFound) -> Goal:
    of, theirs = ours.calm[workers].held_ms, stock.calm[workers].held_ms
    ratio = Spread.of([a / b for a, b in zip(of, theirs, strict=True)])
    medians = Spread.of(of).median, Spread.of(theirs).median
    return Goal(
        f"what was read is back in the pool no later than stock's, P with TP {workers}",
        f"{medians[0]:.1f} ms after P's answer; stock {medians[1]:.1f} ms; {ratio.median:.2f} times as long "
        f"({ratio.low:.2f} to {ratio.high:.2f})",
        ratio.median <= 1.0,
    )


def _all_read(what: str, ours: ReadOutcomes, stock: ReadOutcomes) -> Goal:
    return Goal(f"{what}: intact, right, nothing computed again", _beside(ours, stock), ours.read == ours.count > 0)


def _reused_goal(ours: ReadOutcomes, stock: ReadOutcomes) -> Goal:
    met = ours.wrong == ours.read == 0 < ours.count
    return Goal("read late, P has reused the memory: refused, none wrong", _beside(ours, stock), met)


def _below(text: str, unit: str, limit: float, ours: Sequence[float], stock: Sequence[float]) -> Goal:
    found = f"at most {max(ours):.2g} {unit}; stock {max(stock):.2g} {unit}"
    return Goal(text, found, max(ours) < limit)


def _none_wrong(text: str, ours: ArmFound, stock: ArmFound) -> Goal:
    of, theirs = ours.after_pause + ours.after_reset, stock.after_pause + stock.after_reset
    return Goal(text, _beside(of, theirs), of.wrong == ours.after_reset.read == 0)


def _stays_goal(ours: ArmFound, stock: ArmFound) -> Goal:
    found = f"{_stayed(ours)}; stock: {_stayed(stock)}"
    met = all(ours.stayed) and ours.after_stay.read == ours.after_stay.count > 0
    return Goal(f"P with --shutdown-timeout {SHUTDOWN_TIMEOUT_S} stays until its lease is read", found, met)


def _stayed(arm: ArmFound) -> str:
    return f"{'stayed' if all(arm.stayed) else 'was gone'}, {arm.after_stay}"


def _beside(ours: ReadOutcomes, stock: ReadOutcomes) -> str:
    return f"{ours}; stock: {stock}"


def notes() -> list[str]:
    """Describes how it was measured."""
    return [
        f"One request after the other, {PROMPT_TOKENS:,} tokens and an answer of one, the same prompts for both, which "
        "take turns. P writes down when its block pool gets blocks back (vLLM's own BlockPool, in both), so no step "
        "has to tell a metric of it. A negative time after D's answer: they were back before it.",
        "D lets go of a lease where a client leaves while its request waits there; vLLM's own 503 does the same.",
        "Computed again: a step of D had more tokens than a block while it answered. Stock reads whatever is in P's "
        "memory after the term, so that its late reads are right by luck while nobody was given the blocks. D has no "
        "prefix cache here, so that it has to read again what it has read before.",
        "P's processor time is that of all of its processes, progress threads asleep (0010); D is busy with other "
        "answers on another core, and its queue holds the leases.",
        "The idle step with leases out, and with lapsed blocks, is measured by the benchmark `step`.",
    ]
