"""The bugs that are planted in the product, and the runs in which they were found (`proof/planted`)."""

from collections.abc import Iterator

from docs.made.markdown import code, number, table
from proof.planted import PLANTED
from proof.planted.found import found


def planted() -> Iterator[str]:
    """Every planted bug, in the order of the modules."""
    runs = found()
    rows = (
        (
            code(name),
            bug.what.removesuffix("."),
            bug.stands_for,
            ", ".join(sorted(bug.rules)),
            ", ".join("\N{EN DASH}" if run is None else number(run) for run in runs[name].runs) if name in runs else "",
            "explorer" if bug.within_runs is None else number(bug.within_runs) + (" strikes" if bug.struck else ""),
        )
        for name, bug in PLANTED.items()
    )
    return table(("planted bug", "what goes on instead", "stands for", "breaks", "found in run", "stated"), rows)
