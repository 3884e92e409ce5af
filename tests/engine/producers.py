"""A producer's scheduler and its workers' fence tables, without an engine around them."""

import itertools
from collections.abc import Callable, Sequence

from kvlease.engine.armed import ArmedWords
from kvlease.engine.own_fences import OrderedFences, OwnFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.fence.words import Words
from kvlease.protocol import Cause, Fingerprint, LeaseRef, resolve
from kvlease.protocol.effects import Lapse, Revive
from kvlease.testing.clock import ManualClock
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.desk import ListedDesk
from kvlease.testing.pool import CountedPool

CONFIG = resolve({"kv_lease_duration": 6})
PROMPT = Fingerprint(tokens=64, digest=7)


class Producer:
    """A `ProducerSide` that speaks to a desk, with `workers` tables that it writes itself, or has written by order.

    Attributes: `side`: it. `tables`: the words of its workers.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        slots: int = 4,
        blocks: int = 20,
        by_order: bool = False,
        table: Callable[[int, Words], FenceTable] = lambda _, words: FenceTable(words),
    ) -> None:
        """`table`: makes the table of a worker, by its number."""
        self.clock = ManualClock()
        self.desk = ListedDesk(incarnation=7)
        self.pool = CountedPool(blocks)
        self.side = ProducerSide(
            CONFIG, self.desk, self.pool, workers, draw=itertools.count(101).__next__, clock=self.clock
        )
        self.tables = [table(rank, RegisteredWords(FakeDataAgent(), slots)) for rank in range(workers)]
        self._armed = [ArmedWords(table) for table in self.tables]
        fences: OwnFences = OrderedFences(workers) if by_order else SharedFences(self.tables)
        self.side.open(slots, fences)

    def prefill(
        self, name: str, blocks: int = 2, *, parent: str | None = None, shared: Sequence[int] = ()
    ) -> tuple[LeaseRef, list[int]]:
        """Plays a request from its arrival to its end, and returns its lease's reference and its blocks."""
        self.side.take_on(name, PROMPT)
        own = self.pool.take(blocks)
        self.side.prepare(name)
        self.step()
        used = [*shared, *own]
        ref = self.side.finish(name, used, parent)
        assert ref is not None
        self.pool.give_back(own)
        return ref, used

    def step(self) -> None:
        """All workers do as they are ordered, and report."""
        orders = self.side.fences.take_orders()
        for armed in self._armed:
            armed.arm(orders)
            armed.clear(orders)
            self.side.hear_cleared(armed.take_cleared())

    def lapse(self, ref: LeaseRef, cause: Cause = Cause.EXPIRED) -> None:
        self.desk.news.append(Lapse(ref.token, cause))
        self.side.hear_news()

    def revive(self, ref: LeaseRef) -> None:
        self.desk.news.append(Revive(ref.token))
        self.side.hear_news()

    def words(self, ref: LeaseRef) -> list[int]:
        return [table.word(ref.slot) for table in self.tables]

    def said(self, what: str) -> list[int]:
        """The tokens of which it said this to its agent."""
        return [token for kind, token, *_ in self.desk.said if kind == what]

    def is_empty(self) -> None:
        """Asserts that no lease, slot or block is left."""
        blocks = self.side.blocks
        assert (blocks.held_blocks, blocks.lapsed_blocks, len(self.side.slots)) == (0, 0, 0)
        assert not self.pool.references
        assert not self.side.holds_by_order
        assert {table.word(slot) for table in self.tables for slot in range(self.side.slots.count)} == {0}
