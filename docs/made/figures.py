"""Every figure of the benchmarks that were kept (`proof/bench/results`)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from proof import ROOT
from proof.bench.frame.document import read_all
from proof.bench.frame.registry import BENCHMARKS
from proof.bench.frame.report import page

RESULTS = ROOT / "proof" / "bench" / "results"


def figures(folder: Path) -> Iterator[str]:
    """The figures of all documents in a folder, in the order in which the benchmarks run."""
    yield from page(read_all(folder, list(BENCHMARKS))).splitlines()


PAGES = {RESULTS / name / "figures.md": {"figures": partial(figures, RESULTS / name)} for name in ("cpu", "gpu")}
