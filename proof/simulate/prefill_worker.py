"""The producer's workers: they write blocks, arm and clear words by order, and hear stock consumers."""

from functools import partial
from typing import Any

from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.worker import LeaseWorker
from kvlease.fence import FenceVerifier, RegisteredWords
from proof.promises.watched import WatchedTable
from proof.simulate.context import Context, Owner
from proof.simulate.dataplane import SIM_ERRORS, Region, SimDataAgent
from proof.simulate.requests import StepWork


class PrefillWorker:
    """One rank of a producer: its fence words, and its part of the blocks."""

    def __init__(self, engine: Owner, context: Context, rank: int) -> None:
        self.rank = rank
        self._engine = engine
        self._context = context
        data_agent = SimDataAgent(context.plane, engine.name)
        slots = context.config.fence_slots or context.plan.blocks
        table = WatchedTable(RegisteredWords(data_agent, slots), self._word_changed)
        verifier = FenceVerifier(data_agent, RegisteredWords(data_agent, 1), errors=SIM_ERRORS, clock=engine.clock)
        self.leases = LeaseWorker(table, verifier, engine.fetch_card)
        self.agent_name = f"{engine.incarnation:x}/{rank}"
        self._region = Region(engine.name, table, [None] * (context.plan.blocks + 1))
        context.plane.regions[self.agent_name] = self._region
        self._notices: list[str] = []

    def parts(self, orders: LeaseOrders | None) -> list[Any]:
        """The parts of this worker's step, in their order; each is called at a moment of its own."""
        if orders is None:
            return []
        mine = LeaseOrders(orders.fence, {}, frozenset())
        return [partial(self.leases.do, part, mine, _PrefillStep()) for part in self.leases.order]

    def write(self, work: StepWork) -> None:
        """Write the step's blocks, as the forward pass does, which is launched at any moment of the step."""
        for block, label in work.writes.items():
            self._region.contents[block] = label

    def take_report(self) -> WorkerReport | None:
        """This worker's report about leases at the end of a step."""
        notices, self._notices = self._notices, []
        self.leases.end((), notices)
        return self.leases.take_report()

    def heartbeat(self, request_id: str) -> None:
        """A stock consumer's heartbeat came to this worker."""
        self.leases.hear_heartbeat(request_id)
        self._context.observer.heartbeat(self._engine.name, request_id)

    def notice(self, request_id: str) -> None:
        """A stock consumer has read from this worker."""
        self._notices.append(request_id)
        self._context.observer.noticed(self._engine.name, request_id, self.rank)

    def end(self, death_shows: bool) -> None:
        self._region.alive, self._region.death_shows = False, death_shows

    def death_is_seen(self) -> None:
        self._region.death_shows = True

    def _word_changed(self, slot: int, holds: int) -> None:
        safety, producer = self._context.safety, self._engine.incarnation
        if holds:
            safety.armed(producer, self.rank, slot, holds)
        else:
            safety.cleared(producer, self.rank, slot)


class _PrefillStep:
    """The worker in one step (`kvlease.engine.ports.HostWorker`): a producer loads nothing."""

    def load(self) -> None: ...

    def fail(self, request_id: str) -> None:
        raise AssertionError(f"{request_id}: a producer reads nothing")
