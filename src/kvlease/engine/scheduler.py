"""The lease's part of an engine's scheduler: what is done with leases in the course of a step, and in which order.

The host, an engine's own scheduler, calls: `producer` and `consumer` as requests come, are scheduled and end;
`begin_step` when a step is scheduled, `hear` with what its workers report, `end_step` last.
"""

from collections.abc import Collection

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.ports import LeaseDesk
from kvlease.engine.producer import ProducerSide
from kvlease.fence.slots import NO_ORDERS


class LeaseScheduler:
    """Both roles of an engine in its scheduler. Nothing here waits, and nothing costs more with more leases out."""

    def __init__(self, desk: LeaseDesk, producer: ProducerSide, consumer: ConsumerSide) -> None:
        self.producer = producer
        self.consumer = consumer
        self._desk = desk
        self.end_step = desk.step_ended
        """A step is over, also one that has computed nothing. The desk's own, since each call costs in every step."""

    def begin_step(self, beginning: Collection[str]) -> LeaseOrders | None:
        """What the workers are to do in the step that is scheduled; None when there is nothing.

        `beginning`: the requests whose blocks are to be read from this step on. To be called when the step's requests
        have their blocks: a word is armed in the step that begins its prefill, and not later.
        """
        if not self._desk.progress() and not beginning and not self.producer.slots.has_orders:
            # Nearly every step.
            return None
        # First: a lease that is known to be lost is not read at all (R20).
        reads, unreadable = self.consumer.begin(beginning)
        fence = self.producer.take_orders()
        if fence is NO_ORDERS and not reads and not unreadable:
            return None
        return LeaseOrders(fence, reads, unreadable)

    def hear(self, received: Collection[str], report: WorkerReport | None) -> None:
        """The workers are through with a step. `received`: requests whose reads all of them have ended, well or not."""
        for request_id in received:
            # Only now: every worker has verified what it read, so the blocks may go.
            self.consumer.release(request_id)
        if report is not None:
            self.producer.hear_cleared(report.cleared)
            # In an order that a replay has, too: a set has another one in each process.
            self.producer.hear_heartbeats(sorted(report.heartbeats))
