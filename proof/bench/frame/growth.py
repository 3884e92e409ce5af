"""The goals and curves of what is measured at growing numbers of leases, from the rows by that number."""

from collections.abc import Mapping

from proof.bench.frame.figures import Curves, FigureRow, Goal, Spread

DECISIVE = 10_000
"""The number of leases at which the goals say how long something may take."""
FLAT = 1.5
"""The factor by which any number of leases may cost more than the smallest: the processor's caches and chance."""


def growth_goals(rows: Mapping[int, FigureRow], limit_us: float, what: str = "") -> list[Goal]:
    """The two goals: flat in the number of leases, and fast; judged by kvlease's medians."""
    medians = {leases: spread.median for leases, spread in _ours(rows)}
    fewest = min(medians)
    dearest = max(medians, key=lambda leases: medians[leases])
    growth = medians[dearest] / medians[fewest]
    return [
        Goal(
            f"flat in n: from {fewest:,} to {max(medians):,} leases nowhere over {FLAT:g} times",
            f"{growth:.2f} times at {dearest:,}",
            growth <= FLAT,
        ),
        Goal(
            f"under {limit_us:g} µs{what} at {DECISIVE:,} leases",
            f"{medians[DECISIVE]:.3g} µs",
            medians[DECISIVE] < limit_us,
        ),
    ]


def growth_curves(rows: Mapping[int, FigureRow], x: str, y: str, limit_us: float) -> Curves:
    """The curves of stock and kvlease over the number of leases."""
    stock = [(float(leases), row.stock) for leases, row in rows.items() if row.stock is not None]
    return Curves(x, y, {"stock": stock, "kvlease": _ours(rows)}, log_x=True, log_y=True, limit=limit_us)


def _ours(rows: Mapping[int, FigureRow]) -> list[tuple[int, Spread]]:
    return [(leases, row.ours) for leases, row in rows.items() if row.ours is not None]
