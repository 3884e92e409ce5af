"""Bugs that are planted in the order of what is done inside a step (`kvlease.engine`)."""

from collections.abc import Collection, Iterator, Mapping

from kvlease.engine.orders import LeaseOrders
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker, StepPart
from proof.planted.bug import Replacement, honest, planted


@planted("S1", "error", within_runs=10, stands_for="R9: what has no lease is read by vLLM's own mechanism, unfenced")
def loaded_before_armed() -> Iterator[Replacement]:
    """A worker begins to read before it hears under which leases: the reads are unfenced."""
    yield LeaseWorker, "order", (StepPart.LOAD, StepPart.ARM, StepPart.CLEAR)


@planted("S2", "error", within_runs=50, stands_for="vllm 25808: D read before P had registered the expiry")
def orders_taken_before_the_batch() -> Iterator[Replacement]:
    """The scheduler takes a step's orders before the step's requests have their blocks: they are armed a step late."""
    original = honest(LeaseScheduler, "begin_step")

    def begin_step(self: LeaseScheduler, beginning: Collection[str]) -> LeaseOrders | None:
        orders: LeaseOrders | None = original(self, beginning)
        late: LeaseOrders | None = self.__dict__.pop("late", None)
        if orders is None:
            return late
        self.__dict__["late"] = LeaseOrders(orders.fence, {}, frozenset())
        self.producer.fences.has_orders = True
        return LeaseOrders(late.fence if late else type(orders.fence)(), orders.reads, orders.unreadable)

    yield LeaseScheduler, "begin_step", begin_step


@planted("L2", within_runs=300, stands_for="vllm 53095: a stock D's notice frees what others still read; R9")
def one_notice_counts_for_all_workers() -> Iterator[Replacement]:
    """A stock consumer that has read from one worker is taken to have read from all."""
    original = honest(ProducerSide, "hear_read")

    def hear_read(self: ProducerSide, read: Mapping[str, int]) -> None:
        original(self, dict.fromkeys(read, self.workers))

    yield ProducerSide, "hear_read", hear_read
