"""Requests of every fate and their leases in vLLM's own block pool: S2, and each block in use is somebody's."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvlease.engine.armed import ArmedWords
from kvlease.engine.own_fences import OrderedFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.protocol import Cause, Fingerprint, LeaseRef, resolve
from kvlease.protocol.effects import Lapse, Revive
from kvlease.testing.clock import ManualClock
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.desk import ListedDesk
from kvlease.vllm.pool import VllmPool

pytestmark = [pytest.mark.engine, pytest.mark.essential, pytest.mark.timeout(240)]

MANY = settings(derandomize=True, database=None, deadline=None, max_examples=60, stateful_step_count=120)
BLOCKS, SLOTS = 20, 6
CONFIG = resolve({"kv_lease_duration": 6})
PROMPT = Fingerprint(tokens=64, digest=7)
any_of = st.integers(0, 1 << 16)


class PoolOfLeases(RuleBasedStateMachine):
    """Plays vLLM's scheduler: requests come, find beginnings in the cache, run, are preempted, end or are aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count()
        self.running: list[tuple[str, list[Any]]] = []
        self.offered: dict[int, tuple[LeaseRef, Sequence[Any]]] = {}
        """The references that left the engine, and their blocks, until their leases end."""

    @initialize(caching=st.booleans(), by_order=st.booleans())
    def begin(self, caching: bool, by_order: bool) -> None:
        from vllm.v1.core.block_pool import BlockPool

        self.pool: Any = BlockPool(BLOCKS, caching, 16)
        self.desk, leased = ListedDesk(incarnation=7), VllmPool()
        self.side = ProducerSide(CONFIG, self.desk, leased, 1, draw=itertools.count(101).__next__, clock=ManualClock())
        leased.bind(self.pool, self.before_reset)
        self.table = FenceTable(RegisteredWords(FakeDataAgent(), SLOTS))
        self.worker = ArmedWords(self.table)
        self.side.open(SLOTS, OrderedFences(1) if by_order else SharedFences([self.table]))

    def before_reset(self, in_use: int) -> None:
        if in_use == self.side.blocks.distinct_held:
            self.side.reset()

    def is_armed(self, token: int) -> bool:
        return self.table.word(self.offered[token][0].slot) == token

    def step(self) -> None:
        """The workers do what the scheduler orders, and report."""
        orders = self.side.fences.take_orders()
        self.worker.arm(orders)
        self.worker.clear(orders)
        self.side.hear_cleared(self.worker.take_cleared())
        self.offered = {token: offer for token, offer in self.offered.items() if token in self.side.blocks}

    def take(self, number: int) -> list[Any]:
        taken: list[Any] = self.pool.get_new_blocks(number)
        armed = {token for token in self.offered if self.is_armed(token)}
        readable = {block.block_id for token in armed for block in self.offered[token][1]}
        assert readable.isdisjoint(block.block_id for block in taken), (
            "S2: a block is given away, and its word is armed"
        )
        return taken

    # -- requests ------------------------------------------------------------------------------------------------

    @rule(number=st.integers(1, 6), hits=any_of, of=any_of)
    def arrive(self, number: int, hits: int, of: int) -> None:
        """A request finds the beginning of an offered prompt in the cache, or nothing, and gets blocks for the rest."""
        self.side.hear_news()
        self.step()
        hit: list[Any] = []
        if self.pool.enable_caching and (readable := [token for token in self.offered if self.is_armed(token)]):
            blocks = self.offered[readable[of % len(readable)]][1]
            hit = list(blocks[: hits % (len(blocks) + 1)])
        if sum(block.ref_cnt == 0 for block in hit) + number > self.pool.get_num_free_blocks():
            return
        self.pool.touch(hit)
        own = self.take(number)
        name = f"request-{next(self.names)}"
        self.side.take_on(name, PROMPT)
        self.side.prepare(name)
        self.step()
        self.running.append((name, hit + own))

    @precondition(lambda self: self.running)
    @rule(of=any_of, aborted=st.booleans(), siblings=st.booleans())
    def leave(self, of: int, aborted: bool, siblings: bool) -> None:
        name, blocks = self.running.pop(of % len(self.running))
        if aborted:
            self.side.abort(name)
        elif ref := self.side.finish(name, [block.block_id for block in blocks], "parent" if siblings else None):
            self.offered[ref.token] = ref, blocks
        self.pool.free_blocks(reversed(blocks))

    @precondition(lambda self: self.running)
    @rule(of=any_of)
    def preempt(self, of: int) -> None:
        """A request loses its blocks and is scheduled again under its name, with others."""
        name, blocks = self.running[of % len(self.running)]
        self.pool.free_blocks(reversed(blocks))
        blocks[:] = self.take(min(3, self.pool.get_num_free_blocks()))
        self.side.prepare(name)
        self.step()

    # -- leases --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.offered)
    @rule(of=any_of, news=st.sampled_from([Cause.EXPIRED, Cause.EXPIRED, Cause.RELEASED, Cause.ABORTED, None]))
    def hear_soon(self, of: int, news: Cause | None) -> None:
        """The agent has news of a lease, of which the engine hears in a later step: it is over, or lives again."""
        token = list(self.offered)[of % len(self.offered)]
        self.desk.news.append(Revive(token) if news is None else Lapse(token, news))

    @rule(dice=st.integers(1, 6))
    def reset_cache(self, dice: int) -> None:
        """vLLM resets its prefix cache, seldom: it succeeds where no request uses a block."""
        if dice == 1:
            done = self.pool.reset_prefix_cache()
            assert done or self.running or not self.side.fences.at_once, "leases have kept the cache from its reset"
            self.step()
            assert not done or not any(map(self.is_armed, self.offered)), "what is reset can be read"

    # -- what holds at all times ---------------------------------------------------------------------------------

    @invariant()
    def each_block_in_use_is_somebodys(self) -> None:
        users = Counter(block.block_id for _, blocks in self.running for block in blocks)
        held = set(self.side.blocks.held)
        for block in self.pool.blocks[1:]:
            holders = held.intersection(self.side.blocks.of(block.block_id))
            assert block.ref_cnt == users[block.block_id] + len(holders), block

    def teardown(self) -> None:
        for name, blocks in self.running:
            self.side.abort(name)
            self.pool.free_blocks(reversed(blocks))
        self.side.reset()
        self.step()
        assert self.pool.get_num_free_blocks() == BLOCKS - 1
        assert not len(self.side.slots)
        assert not any(self.table.word(slot) for slot in range(SLOTS))


def test_s2_no_block_is_given_away_while_it_can_be_read() -> None:
    run_state_machine_as_test(PoolOfLeases, settings=MANY)
