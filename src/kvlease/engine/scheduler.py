"""The lease's part of an engine's scheduler: all that is done with leases in a step, and its order.

The host, an engine's own scheduler, calls `producer` and `consumer` as requests come, are scheduled and end;
`begin_step` when a step is scheduled, `hear` with the report of its workers, and `end_step` last. Before it takes
blocks out of its pool it calls `producer.hear_news`, so that what nobody holds any more is free by then.
"""

from collections.abc import Collection

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.orders import NO_ORDERS, LeaseOrders, WorkerReport
from kvlease.engine.ports import LeaseDesk
from kvlease.engine.producer import ProducerSide
from kvlease.protocol.engine_facts import HandOffEnd


class LeaseScheduler:
    """The lease's part of an engine's scheduler, as producer and as consumer.

    Nothing here waits, and no cost grows with the number of leases.
    """

    def __init__(self, desk: LeaseDesk, producer: ProducerSide, consumer: ConsumerSide) -> None:
        self.producer = producer
        self.consumer = consumer
        self._desk = desk
        self.end_step = desk.step_ended
        """Called at the end of every step, also of one that computed nothing: the desk's own, to save a call."""

    def begin_step(self, beginning: Collection[str]) -> LeaseOrders | None:
        """Returns the orders to the workers for the step that is scheduled; None when there are none.

        `beginning`: the requests whose blocks are to be read from this step on. The host calls it when the step's
        requests have their blocks: a word is armed in the step that begins its prefill, and not later.
        """
        if not self._desk.progress() and not beginning and not self.producer.fences.has_orders:
            # This is so in nearly every step.
            return None
        # The consumer comes first: under a lease that is known to be lost, nothing is read (R20).
        reads, unreadable = self.consumer.begin(beginning)
        self.producer.hear_news()
        fence = self.producer.fences.take_orders()
        if fence is NO_ORDERS and not reads and not unreadable:
            return None
        return LeaseOrders(fence, reads, unreadable)

    def hear(self, received: Collection[str], report: WorkerReport | None, failed: Collection[str] = ()) -> None:
        """All workers have ended a step. `received`: requests whose reads have ended on all of them, well or not;
        `failed`: those whose reads have failed on some."""
        if report is not None:
            for request_id, reason in report.unused.items():
                self.consumer.waste(request_id, reason)
        for request_id in failed:
            self.consumer.waste(request_id, "failed")
        for request_id in received:
            # Not before: by now every worker has verified what it read, so the blocks may go.
            self.consumer.release(request_id, HandOffEnd.FAILED if request_id in failed else HandOffEnd.USED)
        if report is not None:
            self.producer.hear_cleared(report.cleared)
            self.producer.hear_read(report.read)
            # Sorted, since a set has another order in each process, and a replay must have the same.
            self.producer.hear_heartbeats(sorted(report.heartbeats))
