"""Whatever happens to leases in whatever order, no block is given away while a word vouches for it (S2, S3)."""

import itertools
import random
from collections.abc import Callable, Mapping

import pytest

from kvlease.fence import FenceTable
from kvlease.fence.words import Words
from kvlease.protocol import Cause, LeaseRef
from proof.promises.safety import Safety
from proof.promises.watched import WatchedTable
from tests.engine.producers import PROMPT, Producer

P = 7
WORKERS, BLOCKS = 2, 16


class Watched:
    """A producer, and the books of what its words say and its pool gives away."""

    def __init__(self, chance: random.Random, *, by_order: bool) -> None:
        self.safety = Safety()
        self.safety.producer_starts(P, WORKERS)
        self.p = Producer(workers=WORKERS, slots=5, blocks=BLOCKS, by_order=by_order, table=self._table)
        self.chance = chance
        self.refs: list[LeaseRef] = []
        self.given = 0
        self._names = itertools.count()
        self._used: Mapping[int, int] = {}
        """The token of each slot that was in use at the last look."""

    def _table(self, rank: int, words: Words) -> FenceTable:
        def note(slot: int, token: int) -> None:
            if token:
                self._look()
                self.safety.armed(P, rank, slot, token)
            else:
                self.safety.cleared(P, rank, slot)

        return WatchedTable(words, note)

    def _look(self) -> None:
        """Tells the books of slots that are free, or have another lease, since the last look."""
        before, self._used = self._used, dict(self.p.side.slots.snapshot().used)
        for slot, token in before.items():
            if self._used.get(slot) != token:
                self.safety.slot_released(P, slot)
        for slot, token in self._used.items():
            if before.get(slot) != token:
                self.safety.prepared(P, slot, token)

    def _take(self, number: int) -> list[int]:
        taken = self.p.pool.take(number)
        for block in taken:
            self.safety.given(P, block)
        self.given += number
        return taken

    def prefill(self) -> None:
        if self.p.pool.free < 4:
            return
        # Some names come again.
        name = f"r{next(self._names) % 7}"
        held = self.p.side.blocks.held
        prefix = [block for block in range(BLOCKS) if held and held[-1] in self.p.side.blocks.of(block)][:2]
        used = [*prefix, *(own := self._take(self.chance.randint(0, 2) if prefix else self.chance.randint(1, 4)))]
        self.p.side.take_on(name, PROMPT)
        self.p.side.prepare(name)
        self.p.step()
        if not self.chance.randrange(5):
            self.p.side.abort(name)
        elif (ref := self.p.side.finish(name, used)) is not None:
            self.safety.granted(P, ref.token, used)
            self.refs.append(ref)
        self.p.pool.give_back(own)

    def lapse(self) -> None:
        if self.refs:
            self.p.lapse(self.chance.choice(self.refs[-6:]), self.chance.choice([*Cause]))

    def revive(self) -> None:
        if self.refs:
            self.p.revive(self.chance.choice(self.refs[-6:]))

    def others_compute(self) -> None:
        blocks = self._take(self.chance.randint(0, self.p.pool.free))
        self.p.pool.cache(blocks[: len(blocks) // 2])
        self.p.pool.give_back(blocks)

    def step(self) -> None:
        self.p.step()

    def reset(self) -> None:
        if not self.chance.randrange(10):
            self.p.side.reset()


MOVES: tuple[Callable[[Watched], None], ...] = (
    Watched.prefill,
    Watched.prefill,
    Watched.lapse,
    Watched.revive,
    Watched.others_compute,
    Watched.step,
    Watched.reset,
)


@pytest.mark.parametrize("by_order", [False, True], ids=["shared words", "words by order"])
@pytest.mark.parametrize("seed", range(30))
def test_s2_no_block_is_given_away_while_a_word_vouches_for_it(seed: int, by_order: bool) -> None:
    chance = random.Random(seed)
    world = Watched(chance, by_order=by_order)
    for _ in range(300):
        chance.choice(MOVES)(world)
    assert len(world.refs) > 10
    assert world.given > 100
    world.p.side.reset()
    world.p.step()
    world.p.is_empty()
    assert world.p.side.ended >= len(world.refs)
    assert sorted(world.p.said("cleared")) == sorted(ref.token for ref in world.refs)
