"""The figures that tables show, in one list for the console and the report, so that both say the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvlease.console.numbers import count, percent, rate, seconds, size
from kvlease.fleet.outcome import FleetOutcome


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of a scenario."""

    label: str
    text: Callable[[FleetOutcome], str]
    meaning: str
    """The meaning of the figure in a sentence, for the report."""
    bad: Callable[[FleetOutcome], bool] = lambda _: False
    """Tells whether the figure is one that no policy should ever show."""


ROWS: Sequence[Row] = (
    Row("right answers", lambda o: percent(o.requests.right / max(o.requests.arrived, 1)), "of the requests that came"),
    Row(
        "wrong answers, HTTP 200",
        lambda o: count(o.requests.wrong),
        "decoded from memory that had been given to another request, and nobody was told",
        lambda o: o.requests.wrong > 0,
    ),
    Row("failed", lambda o: count(o.requests.failed), "answered with an error"),
    Row(
        "clients gave up",
        lambda o: count(o.requests.gave_up),
        "their patience ended before the first token",
    ),
    Row("goodput", lambda o: rate(o.goodput_per_s), "right answers whose first token came in time, per second"),
    Row("first token, median", lambda o: seconds(o.ttft.p50), "of right answers, retries included"),
    Row("first token, 99 %", lambda o: seconds(o.ttft.p99), "of right answers, retries included"),
    Row(
        "stranded block-seconds",
        lambda o: count(o.blocks.stranded_block_s),
        "KV blocks of prefill engines that nobody wanted any more and that were not free, times how long",
    ),
    Row(
        "… already read",
        lambda o: count(o.blocks.stranded_read_block_s),
        "the part of them that is only the way of the completion back to the prefill engine, and its next steps",
    ),
    Row(
        "stranded memory, mean",
        lambda o: percent(o.blocks.stranded_share),
        "the same as a share of the KV memory of all prefill engines, over the window",
    ),
    Row(
        "stranded memory, peak",
        lambda o: percent(o.blocks.stranded_peak / o.blocks.capacity),
        "the most at any moment",
    ),
    Row(
        "held memory, mean",
        lambda o: percent(o.blocks.held_share),
        "all that is under leases, wanted or not",
    ),
    Row(
        "lapsed memory, mean",
        lambda o: percent(o.blocks.lapsed_share),
        "free for the next prompt, and until then still readable under a lease that is over",
    ),
    Row(
        "waited for blocks",
        lambda o: seconds(o.blocks.blocked_s),
        "the next prompt could not begin for want of free blocks, summed over prefill engines",
    ),
    Row(
        "leases lost while wanted",
        lambda o: count(o.leases.lost_while_wanted),
        "ended by their producer though somebody still wanted them: false expiries",
    ),
    Row("leases revived", lambda o: count(o.leases.revived), "claimed again after they had lapsed, before any reuse"),
    Row(
        "late reads",
        lambda o: count(o.leases.late_reads),
        "reads that ended after their blocks had been taken back",
    ),
    Row(
        "… would be wrong answers",
        lambda o: count(o.leases.late_reads_wrong),
        "by then the blocks held somebody else's data",
    ),
    Row("… refused by the fence", lambda o: count(o.leases.late_reads_refused), "the prompt is computed again"),
    Row(
        "prefills wasted",
        lambda o: count(o.prefills.wasted),
        "computed on a prefill engine and never read for a right answer",
    ),
    Row("prefills repeated", lambda o: count(o.prefills.repeated), "computed on a prefill engine once more"),
    Row(
        "prompts decode engines did",
        lambda o: count(o.prefills.recomputed),
        "their other requests stood still meanwhile",
    ),
    Row("lease messages", lambda o: rate(o.traffic.messages_per_s), "there for leases alone, in the whole fleet"),
    Row("lease traffic", lambda o: f"{size(o.traffic.bytes_per_s)}/s", "the same in bytes"),
    Row("lease bytes a request", lambda o: size(o.traffic.bytes_per_request), "the same per request"),
)
