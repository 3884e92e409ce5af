"""The time that the fence adds to a read: one word a worker of the producer, read after the data."""

from collections.abc import Sequence

from proof.bench.core.peers import PinnedProcess
from proof.bench.fence.consumer import Reads, consume
from proof.bench.fence.producer import produce
from proof.bench.fence.setting import MB, PAGE_BYTES, Setting, has_gpu
from proof.bench.frame.errors import require
from proof.bench.frame.figures import Curves, Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.pairs import paired
from proof.bench.frame.progress import say

GOAL_PERCENT = 1.0
GOAL_MB = 16
WORKERS = (1, 8)
HOST = (("shared memory", None), ("TCP", "tcp"))
GPU_PATH = "KV cache on a GPU, as UCX finds best"
PRODUCER_CORE, CONSUMER_CORE = 0, 1
REPEATS = {
    Effort.SHORT: {1: 30, 16: 20, 256: 3},
    Effort.FULL: {1: 400, 16: 300, 256: 40},
}
"""The number of times that all three kinds of reads are timed, by MB."""

Found = dict[int, list[Reads]]
"""The reads, by MB."""


def run(effort: Effort) -> Result:
    """Runs the benchmark, which uses nothing of vLLM, on any machine. Raises `CannotRun` where NIXL is missing."""
    require("torch", "nixl")
    gpu = has_gpu()
    found: dict[Setting, Found] = {}
    for setting in settings(gpu):
        say(setting.name)
        found[setting] = measure(setting, REPEATS[effort])
    return Result(
        name="fence",
        title="Fence: what reading the words adds to reading the data",
        rows=[row for setting, reads in found.items() for row in rows_of(setting, reads)],
        goals=[goal_of(path, found) for path, _ in HOST] + [goal_of(GPU_PATH, found) if gpu else NO_GPU],
        curves=[_curve(found)],
        notes=_NOTES,
    )


def settings(gpu: bool) -> list[Setting]:
    """All settings that are measured; with the KV cache on a GPU where there is one."""
    # On a machine with a GPU, NIXL refuses ways that know none, even from host memory to host memory.
    ways = [(path, f"{tls},cuda_copy" if tls and gpu else tls) for path, tls in HOST]
    host = [Setting(path, tls, "DRAM", workers) for path, tls in ways for workers in WORKERS]
    return host + [Setting(GPU_PATH, None, "VRAM", workers) for workers in WORKERS if gpu]


def measure(setting: Setting, repeats: dict[int, int]) -> Found:
    """Measures one setting, `repeats` times by size in MB. Raises `PeerEnded` when a process does not get through."""
    size, environment = max(repeats) * MB, setting.environment
    with PinnedProcess(produce, setting, size, core=PRODUCER_CORE, environment=environment) as producer:
        addresses = producer.hear()
        arguments = (setting, addresses, repeats)
        with PinnedProcess(consume, *arguments, core=CONSUMER_CORE, environment=environment) as consumer:
            found: Found = consumer.hear()
        producer.tell("end")
    return found


def rows_of(setting: Setting, found: Found) -> list[FigureRow]:
    rows = []
    for size, reads in found.items():
        fences = [each.fence_s * 1e6 for each in reads]
        rows += [
            paired(
                f"{setting.name}, {size} MB: read and fence; stock: read and notice",
                "ms",
                [each.fenced_s * 1e3 for each in reads],
                [each.noticed_s * 1e3 for each in reads],
            ),
            FigureRow("  … the read alone", "ms", Spread.of([each.alone_s * 1e3 for each in reads])),
            FigureRow("  … what the fence adds after it", "µs", Spread.of(fences)),
            FigureRow("  … of the read alone", "%", Spread.of(_shares(reads))),
            FigureRow(
                "  … made ready while the data is on its way", "µs", Spread.of([each.ready_s * 1e6 for each in reads])
            ),
        ]
        if setting.workers > 1:
            rows.append(FigureRow("  … for each worker", "µs", Spread.of([each / setting.workers for each in fences])))
    return rows


def _shares(reads: Sequence[Reads]) -> list[float]:
    """The time of the fence as a percentage of the read alone, pair by pair."""
    return [each.fence_s / each.alone_s * 100 for each in reads]


def goal_of(path: str, found: dict[Setting, Found]) -> Goal:
    """The goal of one path, for each request and worker."""
    parts, met = [], True
    for setting, sizes in found.items():
        if setting.path != path:
            continue
        reads = sizes[GOAL_MB]
        share = Spread.of(_shares(reads)).median
        added_us = Spread.of([each.fence_s * 1e6 for each in reads]).median
        met = met and share / setting.workers < GOAL_PERCENT
        if setting.workers == 1:
            parts.append(f"{share:.2f} % ({added_us:.0f} µs) with one worker")
        else:
            parts.append(
                f"{share:.2f} % ({added_us:.0f} µs) with {setting.workers}, {share / setting.workers:.2f} % for each"
            )
    return Goal(_goal_text(path), "; ".join(parts), met)


def _goal_text(path: str) -> str:
    return f"under {GOAL_PERCENT:g} % of a {GOAL_MB} MB read for each request and worker: {path}"


NO_GPU = Goal(_goal_text(GPU_PATH), "not measured: no GPU here", None)


def _curve(found: dict[Setting, Found]) -> Curves:
    return Curves(
        x="data read (MB)",
        y="added by the fence (% of the read alone)",
        series={
            setting.name: [(float(size), Spread.of(_shares(reads))) for size, reads in sizes.items()]
            for setting, sizes in found.items()
        },
        log_x=True,
        log_y=True,
        limit=GOAL_PERCENT,
    )


_NOTES = (
    f"Data is read as vLLM reads it: prepared lists, make_prepped_xfer, {PAGE_BYTES >> 10} KiB pages (keys or values "
    "of one layer for 32 tokens of an 8B model), scattered. With eight workers each holds an eighth of them. The three "
    "kinds of reads take turns over the same pages.",
    "What the fence adds is timed from the arrival of the data to the verdict, by the product's own verifier. It makes "
    "its reads ready right after the data was asked for. Where somebody else copies the data (a NIC, a GPU, a progress "
    "thread on a core of its own) that costs the request nothing; here it is a part of the read with its fence.",
    "The time of a read with its fence, beside a read with stock's notice, is a cross-check, with the spread of reads.",
    "Stock's notice leaves with the data, and costs no time that can be told apart from it. In its stead a consumer of "
    "ours drops the lease through its agent, after the verdict and beside the engine's step: see `churn`.",
    "Two processes, a core each. A single worker's progress thread spins on the producer's core, as vLLM's does; for "
    "eight, one loop makes progress. The consumer polls, without a progress thread of its own.",
    "On one machine the consumer's own core copies the data, over shared memory and over TCP, so that the fence begins "
    "with caches that hold nothing but data. A NIC or a GPU, which copy by themselves, leave them alone.",
)
