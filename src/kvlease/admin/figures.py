"""All figures of one engine, from its agent, its scheduler and its workers: what every page of metrics is made from.

Counters and gauges are known by metric and value of its label. All numbers are copies, each of them atomic, that may be
a message apart; so any thread may ask, and what it costs does not grow with the number of leases.
"""

from collections import Counter
from collections.abc import Mapping

from kvlease.admin.unheard import UnheardLeases
from kvlease.agent.core import AgentCore, AgentReport
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.producer import ProducerSide
from kvlease.metrics.catalogue import HISTOGRAMS
from kvlease.metrics.histogram import Added, Histogram
from kvlease.metrics.metric import Counted
from kvlease.metrics.observed import ObservedTimes

Key = tuple[str, str]
"""A metric, and the value of its label, or "" where it has none."""


class WorkersFigures:
    """The sum of what an engine's workers have counted and timed, as their scheduler has heard it."""

    def __init__(self) -> None:
        self.totals: Counter[Key] = Counter()
        names = [name for name, metric in HISTOGRAMS.items() if metric.counted is Counted.WORKER]
        self.histograms = {name: Histogram(HISTOGRAMS[name].buckets) for name in names}

    def add(self, counts: Mapping[Key, int], added: Mapping[str, Added]) -> None:
        """Adds what the workers have told since the last step. No figure may end a step: a histogram that is not theirs
        is left out."""
        self.totals.update(counts)
        for name, histogram in self.histograms.items():
            if name in added:
                histogram.add(added[name])


class EngineFigures:
    """The figures of one engine.

    Attributes: `workers`: those of its workers, which a host whose workers tell their figures itself leaves out.
    `unheard`: the leases held for consumers that are not heard. `times`: the histograms that the agent fills.
    `block_bytes`: the memory of one block on all workers together; 0 where the engine does not know.
    """

    def __init__(
        self,
        agent: AgentCore,
        producer: ProducerSide,
        consumer: ConsumerSide,
        times: ObservedTimes,
        counts: "Counter[str]",
        block_bytes: int = 0,
    ) -> None:
        """`counts`: events that the engine's own half counts, `refused.<kind>`."""
        self.workers = WorkersFigures()
        # A consumer's silence is told soon, also where the engine has nothing to do.
        self.unheard = UnheardLeases(producer.blocks.size, agent.ask_for_step)
        self.times = times
        self.block_bytes = block_bytes
        self._agent = agent
        self._producer = producer
        self._consumer = consumer
        self._counts = counts
        agent.watch_by(self.unheard.look)

    def totals(self, report: AgentReport) -> "Counter[Key]":
        """Returns the counters of scheduler and agent, without the workers'."""
        lessor, lessee, agent = report.lessor, report.lessee, report.agent
        # Copies are read: other threads count there.
        produced, consumed = dict(self._producer.counts), self._consumer
        totals: Counter[Key] = Counter()
        totals["grants", ""] = lessor.get("grants", 0)
        totals["claims", ""] = lessor.get("claims", 0)
        totals["crash_reclaims", ""] = produced.get("ends.orphaned", 0)
        totals["reclaimed_blocks", ""] = produced.get("reclaimed_blocks", 0)
        totals["saved_prefill_tokens", ""] = produced.get("saved_tokens", 0)
        totals["renewals", "received"] = lessor.get("renewals", 0)
        totals["renewals", "sent"] = lessee.get("renewals", 0)
        totals["lost_leases", ""] = lessee.get("lost", 0)
        totals["unfenced_reads", ""] = produced.get("unfenced_reads", 0)
        totals["returned_leases", ""] = consumed.returned
        totals["refused", "bad_reference"] = consumed.bad_references
        totals["transport_failures", "send"] = agent.get("sends_failed", 0)
        totals["transport_failures", "connect"] = agent.get("connects_failed", 0)
        for differs, requests in dict(consumed.other_prompts).items():
            totals["other_prompts", differs] = requests
        for reason, tokens in dict(consumed.wasted_tokens).items():
            totals["wasted_prefill_tokens", reason] = tokens
        _collect(totals, produced, _OF_PRODUCER)
        for counts in (lessor, lessee, dict(self._counts)):
            _collect(totals, counts, _OF_STRANGERS)
        _collect(totals, agent, _OF_AGENT)
        return totals

    def gauges(self, report: AgentReport) -> dict[Key, float]:
        """Returns the gauges."""
        blocks, producer = self._producer.blocks, self._producer
        gauges: dict[Key, float] = {
            ("active_leases", ""): blocks.held_leases,
            ("claimed_leases", ""): report.claimed,
            ("held_tokens", ""): blocks.held_tokens,
            ("held_blocks", ""): blocks.held_blocks,
            ("held_bytes", ""): blocks.held_blocks * self.block_bytes,
            ("lapsed_leases", ""): blocks.lapsed_leases,
            ("lapsed_tokens", ""): blocks.lapsed_tokens,
            ("lapsed_blocks", ""): blocks.lapsed_blocks,
            ("lapsed_bytes", ""): blocks.lapsed_blocks * self.block_bytes,
            ("sessions", "consumers"): report.consumers,
            ("sessions", "producers"): report.producers,
            ("fence_slots_used", ""): len(producer.slots),
            ("agent_up", ""): int(report.up),
            ("draining", ""): int(producer.draining),
        }
        for consumer, size in self.unheard.sizes._asdict().items():
            gauges["unheard_leases", consumer] = size.leases
            gauges["unheard_tokens", consumer] = size.tokens
            gauges["unheard_blocks", consumer] = size.blocks
            gauges["unheard_bytes", consumer] = size.blocks * self.block_bytes
        return gauges

    def now(self) -> tuple["Counter[Key]", dict[Key, float], dict[str, Histogram]]:
        """Returns all counters, the workers' included, all gauges, and all histograms."""
        report = self._agent.report()
        totals = self.totals(report)
        totals.update(dict(self.workers.totals))
        return totals, self.gauges(report), self.times.histograms | self.workers.histograms


_OF_PRODUCER = {"ends": "lease_ends", "declined": "declined_offers", "late_claims": "late_claims"}
_OF_STRANGERS = {"refused": "refused", "late": "late"}
_OF_AGENT = _OF_STRANGERS | {
    "sent": "messages_sent",
    "received": "messages_received",
    "bytes_sent": "message_bytes_sent",
    "bytes_received": "message_bytes_received",
}
"""The metrics of counts that are named <family>.<value>, by family."""


def _collect(totals: "Counter[Key]", counts: Mapping[str, int], metrics: Mapping[str, str]) -> None:
    for event, total in counts.items():
        family, dot, value = event.partition(".")
        if dot and (metric := metrics.get(family)) is not None:
            totals[metric, value] += total
