"""Bugs that are planted in the order of what is done inside a step (`kvlease.engine`)."""

from collections.abc import Collection, Iterator

from kvlease.engine.orders import LeaseOrders
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker, StepPart
from proof.planted.bug import Replacement, honest, planted


@planted("S1", "error", within_runs=10, stands_for="R9: what has no lease is read by vLLM's own mechanism, unfenced")
def loaded_before_armed() -> Iterator[Replacement]:
    """A worker begins to read before it hears under which leases: the reads are unfenced."""
    yield LeaseWorker, "order", (StepPart.LOAD, StepPart.ARM, StepPart.CLEAR)


@planted("error", within_runs=400, stands_for="vLLM's scheduler asserts that it knows what a worker reports as sent")
def cleared_before_the_load() -> Iterator[Replacement]:
    """A worker lets go of an aborted prefill's blocks before it has heard that nobody is to send them."""
    yield LeaseWorker, "order", (StepPart.ARM, StepPart.CLEAR, StepPart.LOAD)


@planted("S2", "error", within_runs=10, stands_for="vllm 25808: D read before P had registered the expiry")
def orders_taken_before_the_batch() -> Iterator[Replacement]:
    """The scheduler takes a step's orders before the step's requests have their blocks: they are armed a step late."""
    original = honest(LeaseScheduler, "begin_step")

    def begin_step(self: LeaseScheduler, beginning: Collection[str]) -> LeaseOrders | None:
        orders: LeaseOrders | None = original(self, beginning)
        late: LeaseOrders | None = self.__dict__.pop("late", None)
        if orders is None:
            return late
        self.__dict__["late"] = LeaseOrders(orders.fence, {}, frozenset())
        self.producer.slots.has_orders = True
        return LeaseOrders(late.fence if late else type(orders.fence)(), orders.reads, orders.unreadable)

    yield LeaseScheduler, "begin_step", begin_step


@planted("S2", "S3", within_runs=100, stands_for="vllm 53095: a stock D's notice frees what others still read; R9")
def notice_frees_before_it_clears() -> Iterator[Replacement]:
    """A worker reports what a stock consumer has read as sent in this step, and clears its word in the next."""
    original = honest(LeaseWorker, "end")

    def end(self: LeaseWorker, received: Collection[str], sent: Collection[str]) -> None:
        original(self, received, self.__dict__.pop("late", ()))
        self.__dict__["late"] = tuple(sent)

    yield LeaseWorker, "end", end
