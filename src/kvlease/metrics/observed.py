"""The times that are taken in the agent's thread: it hears the protocol's facts, and fills the histograms."""

from kvlease.metrics.catalogue import HISTOGRAMS
from kvlease.metrics.histogram import Histogram
from kvlease.metrics.metric import Counted
from kvlease.protocol import Cause
from kvlease.protocol.facts import Fact, LeaseClaimed, LeaseLapsed, RenewalAnswered, SessionRenewed


class ObservedTimes:
    """The histograms of an engine's agent. One thread fills them, and others may read.

    Attributes: `histograms`: each by the name of its metric.
    """

    def __init__(self) -> None:
        names = [name for name, metric in HISTOGRAMS.items() if metric.counted is Counted.ENGINE]
        self.histograms = {name: Histogram(HISTOGRAMS[name].buckets) for name in names}
        self.late = self.histograms["agent_lag_seconds"].observe
        """Hears how late, in seconds, the thread took a turn after the pause that it had chosen."""
        self._claim_wait = self.histograms["claim_wait_seconds"].observe
        self._claim_to_release = self.histograms["claim_to_release_seconds"].observe
        self._age = self.histograms["lease_age_seconds"].observe
        self._renewal_remaining = self.histograms["renewal_remaining_seconds"].observe
        self._round_trip = self.histograms["ack_round_trip_seconds"].observe

    def hear(self, fact: Fact) -> None:
        """Hears a fact (`kvlease.protocol.facts.Tell`)."""
        # By type, since isinstance is slow for msgspec's classes; a lease tells three facts, two of them of interest.
        if type(fact) is LeaseClaimed:
            if fact.first:
                self._claim_wait(fact.age_s)
        elif type(fact) is LeaseLapsed:
            self._age(fact.age_s)
            if fact.cause is Cause.RELEASED and fact.claimed_s is not None:
                self._claim_to_release(fact.claimed_s)
        elif type(fact) is SessionRenewed:
            self._renewal_remaining(fact.remaining_s)
        elif type(fact) is RenewalAnswered:
            self._round_trip(fact.after_s)
