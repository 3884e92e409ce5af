"""Bugs that are planted in what leases make of blocks: who holds them, who is told before they are given away."""

from collections.abc import Iterator, Sequence
from typing import Any

from kvlease.engine import producer
from kvlease.engine.leased_blocks import LeasedBlocks
from kvlease.engine.producer import ProducerSide
from kvlease.protocol import Cause, LeaseRef, Lessor, lessor
from kvlease.protocol.effects import LeaseNews, Revive
from kvlease.protocol.lease import Lease
from kvlease.testing.pool import CountedPool
from proof.planted.bug import Replacement, honest, planted


@planted("S2", within_runs=10, stands_for="protocol, the fence, 2: cleared before the block is given to anybody")
def cleared_after_the_block_was_given() -> Iterator[Replacement]:
    """The words of a reused block are cleared once the request that gets it has its lease prepared."""
    honest_reused, honest_prepare = honest(ProducerSide, "_reused"), honest(ProducerSide, "prepare")

    def reused(self: ProducerSide, block: int) -> None:
        self.__dict__.setdefault("late", []).append(block)

    def prepare(self: ProducerSide, request_id: str) -> None:
        for block in self.__dict__.pop("late", []):
            honest_reused(self, block)
        honest_prepare(self, request_id)

    yield ProducerSide, "_reused", reused
    yield ProducerSide, "prepare", prepare


@planted("S2", within_runs=25, stands_for="vLLM's copy-on-write; loads of other connectors: a second way to get blocks")
def second_way_to_get_blocks() -> Iterator[Replacement]:
    """A request that needs a single block gets it past the watch."""
    original = honest(CountedPool, "take")

    def take(self: CountedPool, number: int) -> list[int]:
        if number != 1:
            taken: list[int] = original(self, number)
            return taken
        (block, _) = self._free.popitem(last=False)
        self._cached.discard(block)
        self.references[block] = 1
        return [block]

    yield CountedPool, "take", take


@planted("S2", within_runs=10, stands_for="BlockPool.free_blocks in the place of unpin_blocks")
def given_back_without_a_watch() -> Iterator[Replacement]:
    """A lapsed lease's blocks are free like any others, and nobody is told before they are given away."""

    def reused(_self: ProducerSide, _block: int) -> None:
        return None

    yield ProducerSide, "_reused", reused


@planted("S2", within_runs=100, stands_for="BlockPool.unpin_blocks: one watcher a block, and the last one wins")
def only_the_last_lease_of_a_block_is_told() -> Iterator[Replacement]:
    """The last lease of a block alone loses its word when the block is reused, and not others that begin alike."""
    original = honest(LeasedBlocks, "of")

    def of(self: LeasedBlocks, block: int) -> tuple[int, ...]:
        leases: tuple[int, ...] = original(self, block)
        return leases[-1:]

    yield LeasedBlocks, "of", of


@planted("S2", within_runs=10, stands_for="decision 0024: all KV cache groups are touched; hybrid models have several")
def kv_cache_group_forgotten() -> Iterator[Replacement]:
    """A lease holds and watches the blocks of the first half of the groups alone."""
    original = honest(LeasedBlocks, "hold")

    def hold(self: LeasedBlocks, token: int, blocks: Sequence[int], *more: Any) -> None:
        original(self, token, blocks[: (len(blocks) + 1) // 2], *more)

    yield LeasedBlocks, "hold", hold


@planted("L1", "error", within_runs=25, stands_for="decision 0024: null blocks are left out; sliding windows have them")
def null_block_counted() -> Iterator[Replacement]:
    """The block that stands for what a model does not keep is held like those of the request."""

    original = honest(ProducerSide, "finish")

    def finish(self: ProducerSide, request_id: str, blocks: Sequence[int], *more: Any) -> LeaseRef | None:
        ref: LeaseRef | None = original(self, request_id, [0, *blocks], *more)
        return ref

    yield ProducerSide, "finish", finish


@planted(
    "S2", within_runs=125, stands_for="decision 0024: a claim brings the lease back, and the blocks are touched again"
)
def revived_without_its_blocks() -> Iterator[Replacement]:
    """A lease that is claimed again lives, and its blocks stay free for others."""

    def revive(self: LeasedBlocks, token: int) -> None:
        blocks = self._held[token] = self._lapsed.pop(token)
        self.lapsed_blocks -= len(blocks)
        self.held_blocks += len(blocks)
        for block in blocks:
            # So that what is given back again is accounted for.
            self._pool.references[block] += 1  # type: ignore[attr-defined]

    yield LeasedBlocks, "revive", revive


@planted(
    "L1", "S2", within_runs=None, stands_for="decision 0024: a claim may reach a lease whose block was just given away"
)
def revived_without_a_look() -> Iterator[Replacement]:
    """A lease whose word is clear is revived like any other: it takes blocks that are somebody else's."""
    honest_forget, honest_hear = honest(LeasedBlocks, "forget"), honest(ProducerSide, "_hear")

    def forget(self: LeasedBlocks, token: int) -> None:
        blocks = self._lapsed.get(token)
        honest_forget(self, token)
        if blocks is not None:
            self.__dict__.setdefault("gone", {})[token] = blocks

    def hear(self: ProducerSide, news: LeaseNews) -> None:
        gone = self.blocks.__dict__.get("gone", {})
        if type(news) is Revive and news.token in gone:
            self.blocks.hold(news.token, gone.pop(news.token))
        else:
            honest_hear(self, news)

    yield LeasedBlocks, "forget", forget
    yield ProducerSide, "_hear", hear


@planted("R25", within_runs=50, stands_for="R25: a maximum age that a claim can pass is none")
def aged_out_lease_revived() -> Iterator[Replacement]:
    """A lease that has reached its maximum age is claimed again, and lives on."""

    def may_claim(_self: Lessor, _lease: Lease, _t: float) -> bool:
        return True

    yield Lessor, "_may_claim", may_claim


@planted("R25", within_runs=1500, stands_for="etcd's lessor: a renewal of a revoked lease must fail")
def revoked_lease_revived() -> Iterator[Replacement]:
    """A lease that an operator has ended is claimed again, before its word is clear."""
    yield lessor, "_FINAL", (Cause.ABORTED, Cause.AGED_OUT)


@planted("S2", within_runs=200, stands_for="the word is the permission: whoever takes it back clears it")
def revoked_lease_readable() -> Iterator[Replacement]:
    """The words of a lease that an operator has ended stay armed until its blocks are needed."""
    yield producer, "_NEVER_AGAIN", (Cause.ABORTED,)


@planted("S2", "L3", within_runs=25, stands_for="vLLM's weight updates: what was computed before must not be read")
def reset_forgets_what_has_lapsed() -> Iterator[Replacement]:
    """A reset of the cache ends the leases that are held, and those that have lapsed can still be read."""

    def reset(self: ProducerSide) -> None:
        for token in self.blocks.held:
            self._end(token)

    yield ProducerSide, "reset", reset


@planted("S3", "error", within_runs=50, stands_for="protocol, the fence, 4: a slot rests until its word is clear")
def lapsed_slot_reused_early() -> Iterator[Replacement]:
    """A slot that a lapsed lease gives up is given out again with its word still armed."""

    def has_free_slot(self: ProducerSide) -> bool:
        spared = self.blocks.least_wanted
        if self.slots.full and spared is not None:
            slot = self.slots.holding(spared)
            assert slot is not None
            self._retire(slot)
        return not self.slots.full

    yield ProducerSide, "_has_free_slot", has_free_slot


@planted("L2", within_runs=100, stands_for="decision 0024: over is not gone")
def lapsed_lease_ends_at_once() -> Iterator[Replacement]:
    """The word of a lease is cleared when it is over, though nobody needs its blocks."""
    original = honest(ProducerSide, "_lapse")

    def lapse(self: ProducerSide, token: int, *more: object) -> None:
        original(self, token, *more)
        if self.blocks.has_lapsed(token):
            self._end(token)

    yield ProducerSide, "_lapse", lapse
