"""Leases that come and go, 5,000 a second: what each takes of processor time and of memory, on both sides together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proof.bench.churn.books import OurBooks
from proof.bench.churn.memory import over_memory
from proof.bench.churn.meter import WINDOW_S, ChurnPlan, MeterWindow, Side
from proof.bench.churn.nixl import over_nixl
from proof.bench.churn.space import Space, allocations, left_behind, space
from proof.bench.churn.stock import StockBooks
from proof.bench.core.stock import require_vllm
from proof.bench.frame.figures import Curves, Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.pairs import paired
from proof.bench.frame.progress import say

RATE = 5000.0
GOAL_US = 30.0
GOAL_BYTES = 1024.0
KEPT_UP = 0.95
"""The share of the rate that has to be reached: with less, another churn than this was measured."""


@dataclass(frozen=True, slots=True)
class _Amount:
    plan: ChurnPlan
    pairs: int
    leases: int
    """Leases in each block of a pair."""
    sizes: tuple[int, ...]
    """Numbers of leases that are out at the same time."""


_SHORT = _Amount(ChurnPlan(RATE, 4.0, 2.0), 3, 2_500, (1_000, 10_000))
_FULL = _Amount(ChurnPlan(RATE, 30.0, 5.0), 21, 10_000, (1_000, 3_000, 10_000, 30_000, 100_000))
SIZE = 10_000
"""The number of leases out for which the goal about memory is judged."""
COUNTED = 2_000
"""Leases whose allocations are counted."""


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises `CannotRun` where NIXL, vLLM or memray is missing."""
    require_vllm()
    amount = _SHORT if effort is Effort.SHORT else _FULL
    say("counting what a lease asks for")
    asked = allocations(COUNTED)
    spaces = {leases: space(leases) for leases in amount.sizes}
    left = left_behind(SIZE)
    say("the books alone, ours and stock's in turn")
    books = _books(amount)
    say(f"in one process for {amount.plan.busy_s:g} s")
    memory = over_memory(amount.plan)
    say(f"over NIXL for {amount.plan.busy_s:g} s")
    nixl = over_nixl(amount.plan)
    return Result(
        name="churn",
        title="Churn: 5,000 leases a second granted, claimed, released",
        rows=[
            *load_rows("in memory", memory),
            *load_rows("over NIXL", nixl),
            books,
            *_space_rows(spaces[SIZE], left, asked),
        ],
        goals=[time_goal(memory, nixl), space_goal(spaces[SIZE])],
        curves=[_curve(spaces)],
        notes=_notes(memory, nixl),
    )


def _books(amount: _Amount) -> FigureRow:
    ours, stock = OurBooks(), StockBooks()
    sides: list[tuple[OurBooks | StockBooks, list[float]]] = [(ours, []), (stock, [])]
    for number in range(amount.pairs):
        for side, found in sides if number % 2 == 0 else reversed(sides):
            found.append(side.spend(amount.leases) / amount.leases * 1e6)
    return paired("the books alone, by hand, no threads and no network", "µs", sides[0][1], sides[1][1])


def load_rows(where: str, sides: tuple[Side, Side]) -> list[FigureRow]:
    producer, consumer = sides
    return [
        FigureRow(f"{where}: processor time of a lease, both sides", "µs", _total(sides)),
        FigureRow("  … calls of the producer's engine", "µs", _of(producer, lambda window: window.calls_s)),
        FigureRow("  … the producer's agent", "µs", _of(producer, lambda window: window.agent_s)),
        FigureRow("  … calls of the consumer's engine", "µs", _of(consumer, lambda window: window.calls_s)),
        FigureRow("  … the consumer's agent", "µs", _of(consumer, lambda window: window.agent_s)),
        FigureRow(f"{where}: all of the processes, this benchmark's own work included", "µs", _processes(sides)),
        FigureRow(f"{where}: an agent with nothing to do", "% of a core", _idle(sides)),
        FigureRow(f"{where}: leases a second", "1/s", Spread.of([w.leases / w.wall_s for w in producer.windows])),
        FigureRow(f"{where}: resident memory gained while they came and went", "KiB", _gained(sides)),
    ]


def _of(side: Side, part: Callable[[MeterWindow], float]) -> Spread:
    return Spread.of(_us(side, part))


def _us(side: Side, part: Callable[[MeterWindow], float]) -> list[float]:
    """The µs that a lease takes of this part, second by second."""
    return [part(window) / window.leases * 1e6 for window in side.windows]


def _total(sides: tuple[Side, Side]) -> Spread:
    ours, theirs = (_us(side, lambda window: window.calls_s + window.agent_s) for side in sides)
    return Spread.of([a + b for a, b in zip(ours, theirs, strict=False)])


def _processes(sides: tuple[Side, Side]) -> Spread:
    """A cross-check: what the processes took, less what the same steps take without leases."""
    # In one process, both sides have seen the same.
    found = [_busy_us(side) for side in (sides if sides[0].own_process else sides[:1])]
    return Spread.of([sum(both) for both in zip(*found, strict=False)])


def _busy_us(side: Side) -> list[float]:
    idle = Spread.of([window.process_s / window.wall_s for window in side.idle]).median
    return _us(side, lambda window: window.process_s - idle * window.wall_s)


def _idle(sides: tuple[Side, Side]) -> Spread:
    return Spread.of([window.agent_s / window.wall_s * 100 for side in sides for window in side.idle])


def _gained(sides: tuple[Side, Side]) -> Spread:
    return Spread.of([float(side.grown_kib) for side in (sides if sides[0].own_process else sides[:1])])


def _space_rows(found: Space, left: float, asked: float) -> list[FigureRow]:
    return [
        FigureRow(f"memory of a lease at the producer, {SIZE:,} out", "B", Spread.of([found.producer])),
        FigureRow(f"memory of a lease at the consumer, {SIZE:,} out", "B", Spread.of([found.consumer])),
        FigureRow("  … both, at the peak", "B", Spread.of([found.peak])),
        FigureRow("memory that a lease leaves behind", "B", Spread.of([left])),
        FigureRow("allocations of a lease, both sides", "1", Spread.of([asked])),
    ]


def time_goal(memory: tuple[Side, Side], nixl: tuple[Side, Side]) -> Goal:
    in_memory, over = _total(memory).median, _total(nixl).median
    slow = [side for side, _ in (memory, nixl) if _rate(side) < KEPT_UP * RATE]
    found = f"{in_memory:.1f} µs in memory, {over:.1f} µs over NIXL"
    if slow:
        return Goal(_TIME, f"{found}, but the machine did not keep up: {_rate(slow[0]):,.0f} leases a second", False)
    return Goal(_TIME, found, max(in_memory, over) < GOAL_US)


_TIME = f"under {GOAL_US:g} µs of processor time a lease, end to end, at {RATE:,.0f} a second"


def _rate(side: Side) -> float:
    return Spread.of([window.leases / window.wall_s for window in side.windows]).median


def space_goal(found: Space) -> Goal:
    both = found.producer + found.consumer
    return Goal(
        "under 1 KB of memory a lease",
        f"{found.producer:.0f} B at the producer and {found.consumer:.0f} B at the consumer, {both:.0f} B together",
        both < GOAL_BYTES,
    )


def _curve(spaces: dict[int, Space]) -> Curves:
    return Curves(
        x="leases out",
        y="memory of a lease (B)",
        series={
            "producer": [(float(n), Spread.of([found.producer])) for n, found in spaces.items()],
            "consumer": [(float(n), Spread.of([found.consumer])) for n, found in spaces.items()],
        },
        log_x=True,
        limit=GOAL_BYTES,
    )


def _notes(memory: tuple[Side, Side], nixl: tuple[Side, Side]) -> Sequence[str]:
    claimed = [f"{side.claims / side.leases:.0%}" for side, _ in (memory, nixl)]
    return (
        f"Open loop, engines with a step every 10 ms, windows of {WINDOW_S:g} s. A consumer holds each lease for 50 to "
        "200 ms; one that lets go before its claim has left sends the drop alone. Claimed were "
        f"{claimed[0]} in memory, {claimed[1]} over NIXL.",
        "Processor time is that of the agents' threads and of the engines' calls grant, take_news, cleared, track, "
        "untrack, take_lost; what is over is cleared at once, as if its blocks were reused. In memory both engines "
        "share one process and its interpreter lock; over NIXL each has a process and a core. References pass through "
        "a pipe, which is not counted.",
        "Stock has no like of it end to end: no claim, no answer, no fence, and its notice travels with the data. What "
        "can be compared is the books alone: vLLM's own start_load_kv (with the producer's new requests), "
        "on_new_request, _get_new_notifs and update_connector_output, beside both our agents, with all their messages "
        "encoded and decoded. vLLM's renewals, which cost more the longer leases live, are not in it.",
        "Memory is Python's own (tracemalloc), of leases that are granted and claimed, without the names of the "
        "requests. Allocations are counted by memray, those of numbers and of what lives for a moment among them.",
    )
