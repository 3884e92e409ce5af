"""The cost that the producer's hooks add to an engine step, with n leases out and nothing to do.

The side of kvlease is all that vLLM calls in the connector during a step, both halves, less the same with stock's
connector while nothing is out: both are measured alternately and subtracted round by round. Stock's is its sweep over n
deadlines.
"""

from proof.bench.core.idle_step import (
    BLOCKS_OF_A_REQUEST,
    LeasedEngine,
    SteppedEngine,
    lapsed_engine,
    leased_engine,
    stock_engine,
    travel,
)
from proof.bench.core.stock import reaper, request_ids, require_vllm
from proof.bench.frame.figures import Effort, FigureRow, Goal, Result
from proof.bench.frame.growth import DECISIVE, FLAT, growth_curves, growth_goals
from proof.bench.frame.pairs import Repeats, Work, alone, compare, paired, rounds, timing
from proof.bench.frame.progress import say

SIZES = {Effort.SHORT: (10, 1_000, 10_000), Effort.FULL: (10, 100, 1_000, 10_000, 100_000)}
LIMIT_US = 2.0
LAPSED_BLOCKS = 100_000
"""The lapsed blocks that must not make a step dearer."""


def run(effort: Effort) -> Result:
    require_vllm()
    amount = timing(effort)
    added = {leases: _measure(leases, amount) for leases in SIZES[effort]}
    lapsed = _measure_lapsed(amount)
    say("its parts")
    engine = leased_engine(request_ids(DECISIVE))
    stock = stock_engine([])
    return Result(
        name="step",
        title="what an engine step costs more with leases out and nothing to do",
        rows=[*added.values(), lapsed, *_parts(engine, stock, amount), *_beside_the_step(engine, amount)],
        goals=[*growth_goals(added, LIMIT_US, " added"), lapsed_goal(lapsed, added[DECISIVE])],
        curves=[growth_curves(added, "leases out", "µs added to a step", LIMIT_US)],
        notes=[
            "kvlease: everything that vLLM calls in the connector in a step, in scheduler and worker, less the same of "
            "stock's connector with nothing out. Stock: its sweep alone",
            "the last two rows do not belong to every step: the agent has its turns in a thread of its own, and the "
            "metrics are told four times a second at most",
        ],
    )


def _measure(leases: int, amount: Repeats) -> FigureRow:
    say(f"{leases:,} leases")
    ids = request_ids(leases)
    return _added(f"added, {leases:,} leases out", leased_engine(ids), ids, amount)


def _measure_lapsed(amount: Repeats) -> FigureRow:
    say(f"{LAPSED_BLOCKS:,} lapsed blocks")
    ids = request_ids(LAPSED_BLOCKS // BLOCKS_OF_A_REQUEST)
    return _added(f"added, {LAPSED_BLOCKS:,} lapsed blocks of {len(ids):,} leases", lapsed_engine(ids), ids, amount)


def lapsed_goal(lapsed: FigureRow, out: FigureRow) -> Goal:
    """The goal: lapsed blocks cost a step no more than leases that are out."""
    assert lapsed.ours is not None
    assert out.ours is not None
    times = lapsed.ours.median / out.ours.median
    return Goal(
        f"with {LAPSED_BLOCKS:,} lapsed blocks no more than {FLAT:g} times that, and under {LIMIT_US:g} µs added",
        f"{lapsed.ours.median:.3g} µs, {times:.2f} times",
        times <= FLAT and lapsed.ours.median < LIMIT_US,
    )


def _added(what: str, leased: LeasedEngine, ids: list[str], amount: Repeats) -> FigureRow:
    """The row of what a step costs more with this engine; beside it, stock's sweep over as many that are out."""
    idle, stock = stock_engine([]), stock_engine(ids)
    reap = reaper(stock.worker_half)
    sweep = Work(lambda: reap(set()))
    ours_us, base_us, sweep_us = rounds([Work(leased.step), Work(idle.step), sweep], amount)
    added_us = [a - b for a, b in zip(ours_us, base_us, strict=True)]
    return paired(what, "µs", added_us, sweep_us)


def _parts(leased: SteppedEngine, stock: SteppedEngine, amount: Repeats) -> list[FigureRow]:
    """The rows of the parts of a step with the decisive number of leases; stock's with nothing out."""
    ours_meta, stock_meta = leased.build(), stock.build()
    ours_out, stock_out = leased.work(ours_meta), stock.work(stock_meta)
    return [
        compare("whole step, stock with nothing out", Work(leased.step), Work(stock.step), amount),
        compare("of it: scheduler, before", Work(leased.build), Work(stock.build), amount),
        compare("of it: worker", Work(lambda: leased.work(ours_meta)), Work(lambda: stock.work(stock_meta)), amount),
        compare(
            "of it: scheduler, after",
            Work(lambda: leased.update(ours_out)),
            Work(lambda: stock.update(stock_out)),
            amount,
        ),
        compare(
            "pickled to another process and back (TP > 1)",
            Work(lambda: travel(ours_meta)),
            Work(lambda: travel(stock_meta)),
            amount,
        ),
    ]


def _beside_the_step(leased: LeasedEngine, amount: Repeats) -> list[FigureRow]:
    feed = leased.leases.stats

    def tell() -> None:
        feed.hasten()
        feed.take()

    return [
        alone(f"the agent's turn, nothing arrives, {DECISIVE:,} leases", Work(leased.agent.turn), amount),
        alone("metrics told", Work(tell), amount),
    ]
