"""The time that the fence adds to a read: one word a worker of the producer, read after the data."""

from collections.abc import Sequence

from proof.bench.core.peers import PinnedProcess
from proof.bench.fence.consumer import Reads, consume
from proof.bench.fence.paths import PATHS, ReadPath, asked, left_out, settings_of
from proof.bench.fence.producer import produce
from proof.bench.fence.setting import MB, PAGE_BYTES, Setting, no_gpu
from proof.bench.frame.errors import require
from proof.bench.frame.figures import Curves, Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.pairs import paired
from proof.bench.frame.progress import say
from proof.bench.frame.report import spread_text

GOAL_PERCENT = 1.0
GOAL_MB = 16
PRODUCER_CORE, CONSUMER_CORE = 0, 1
REPEATS = {
    Effort.SHORT: {1: 30, 16: 20, 256: 3},
    Effort.FULL: {1: 400, 16: 300, 256: 40},
}
"""The number of times that all three kinds of reads are timed, by MB."""

Found = dict[int, list[Reads]]
"""The reads, by MB."""


def run(effort: Effort) -> Result:
    """Runs the benchmark, which uses nothing of vLLM, on any machine. Raises `CannotRun` where NIXL is missing, or
    where `--data` asks for a GPU that is not there."""
    require("torch", "nixl")
    why_no_gpu = no_gpu()
    reasons = left_out(asked(), why_no_gpu)
    measured = [path for name, path in PATHS.items() if name not in reasons]
    found: dict[Setting, Found] = {}
    for setting in (setting for path in measured for setting in settings_of(path, gpu=not why_no_gpu)):
        say(setting.name)
        found[setting] = measure(setting, REPEATS[effort])
        say(f"{setting.name}: {_decisive(found[setting])}")
    return Result(
        name="fence",
        title="Fence: what reading the words adds to reading the data",
        rows=[row for setting, reads in found.items() for row in rows_of(setting, reads)],
        goals=[goal_of(path, found, reasons.get(name)) for name, path in PATHS.items()],
        curves=[_curve(found)],
        notes=(*_NOTES, *([_GPU_NOTE] if any(path.wants_gpu for path in measured) else [])),
    )


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


def _decisive(found: Found) -> str:
    """The figures on which the goal rests, for those who wait, or whose run ends early."""
    reads = found[GOAL_MB]
    alone = Spread.of([each.alone_s * 1e3 for each in reads])
    added = Spread.of([each.fence_s * 1e6 for each in reads])
    return f"{GOAL_MB} MB in {spread_text(alone, 'ms')}, the fence {spread_text(added, 'µs')}"


def goal_of(path: ReadPath, found: dict[Setting, Found], left_out: str | None = None) -> Goal:
    """The goal of one path, for each request and worker; `left_out` is the reason why it was not measured."""
    text = f"under {GOAL_PERCENT:g} % of a {GOAL_MB} MB read for each request and worker: {path.name}"
    if left_out is not None:
        return Goal(text, f"not measured: {left_out}", None)
    parts, met = [], True
    for setting, sizes in found.items():
        if setting.path != path.name:
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
    return Goal(text, "; ".join(parts), met)


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

_GPU_NOTE = (
    "With the KV cache on a GPU, the words are in host memory all the same. Over CUDA IPC the GPU copies from one "
    "process to the other; UCX does so by itself only where it sees an NVLink, and is told to "
    "(UCX_CUDA_IPC_ENABLE_GET_ZCOPY). The log of this benchmark has the transports that UCX chose."
)
