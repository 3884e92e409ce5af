"""The blocks of leases in a producer's block pool: held while the lease lives, lapsed once it is over.

A lapsed lease's blocks are free like any others. They are its own until the pool is about to give one of them away;
until then it can be read, and revived.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from kvlease.engine.ports import BlockPool
from kvlease.engine.unread import UnreadLeases


class LeaseSize(NamedTuple):
    """The size of a lease."""

    tokens: int
    """The tokens of its prompt."""
    blocks: int


class LeasedBlocks:
    """The blocks of every lease that is granted and not ended, by token.

    Attributes: `held_blocks` and `lapsed_blocks`: the blocks of held and of lapsed leases; one that several leases
    share, since their prompts begin alike, counts for each of them. `held_tokens` and `lapsed_tokens`: the tokens of
    their prompts, in the same way.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.held_blocks = 0
        self.lapsed_blocks = 0
        self.held_tokens = 0
        self.lapsed_tokens = 0
        self._pool = pool
        self._sizes: dict[int, LeaseSize] = {}
        self._held: dict[int, Sequence[int]] = {}
        self._lapsed: OrderedDict[int, Sequence[int]] = OrderedDict()
        """The lapsed leases, the least wanted at the front, from where a plain dict takes ever longer."""
        self._unread = UnreadLeases()
        self._owners = _Owners()

    @property
    def held(self) -> Sequence[int]:
        """The leases that hold their blocks."""
        return list(self._held)

    @property
    def lapsed(self) -> Sequence[int]:
        """The leases whose blocks are free and still their own."""
        return list(self._lapsed)

    @property
    def held_leases(self) -> int:
        """The number of leases that hold their blocks."""
        return len(self._held)

    @property
    def lapsed_leases(self) -> int:
        """The number of leases whose blocks are free and still their own."""
        return len(self._lapsed)

    @property
    def distinct_held(self) -> int:
        """The number of blocks that leases hold, each counted once. It looks at all of them."""
        return len({block for blocks in self._held.values() for block in blocks})

    @property
    def least_wanted(self) -> int | None:
        """The lapsed lease that can be spared best: one that was read, or else the one that lapsed first."""
        return next(iter(self._lapsed), None)

    def __contains__(self, token: int) -> bool:
        """Tells whether the lease is granted and not ended."""
        return token in self._held or token in self._lapsed

    def holds(self, token: int) -> bool:
        """Tells whether the lease holds its blocks."""
        return token in self._held

    def has_lapsed(self, token: int) -> bool:
        """Tells whether the lease's blocks are free and still its own."""
        return token in self._lapsed

    def count(self, token: int) -> int:
        """Returns the number of blocks that a held lease has."""
        return len(self._held[token])

    def size(self, token: int) -> LeaseSize | None:
        """Returns the size of a lease; None for one that has ended, or was not granted. Any thread may ask."""
        return self._sizes.get(token)

    def of(self, block: int) -> tuple[int, ...]:
        """Returns the leases that a block belongs to."""
        return self._owners.of(block)

    def hold(self, token: int, blocks: Sequence[int], tokens: int = 0) -> None:
        """Takes a reference to the blocks, which somebody uses now, for a new lease of a prompt with `tokens` tokens.

        At most one lapsed lease is moved in the pool for it, so that no step grows with their number.
        """
        self._pool.hold(blocks)
        self._held[token] = blocks
        self._sizes[token] = LeaseSize(tokens, len(blocks))
        self.held_blocks += len(blocks)
        self.held_tokens += tokens
        # Blocks of other leases were found in the cache, and not taken from the free ones.
        taken = sum([self._owners.add(block, token) for block in blocks])
        if (near := self._unread.take(taken)) is not None:
            self._move_back(*near)

    def _move_back(self, token: int, chances: int) -> None:
        self._pool.hold(self._lapsed[token])
        self._pool.give_back(self._lapsed[token], last=True)
        self._unread.add(token, self._pool.free, chances)

    def lapse(self, token: int, last: bool) -> None:
        """Gives the blocks of a held lease back; if `last`, nobody has read it, and it is one of the last to be spared.

        What was read goes behind all free blocks as well, or a second reader would never find it; it is moved no more.
        """
        blocks = self._lapsed[token] = self._held.pop(token)
        tokens = self._sizes[token].tokens
        self.held_blocks -= len(blocks)
        self.held_tokens -= tokens
        self.lapsed_blocks += len(blocks)
        self.lapsed_tokens += tokens
        self._pool.give_back(blocks, last=True)
        if last:
            self._unread.add(token, self._pool.free)
        else:
            self._lapsed.move_to_end(token, last=False)

    def revive(self, token: int) -> None:
        """Takes the blocks of a lapsed lease out of the pool again."""
        blocks = self._held[token] = self._lapsed.pop(token)
        self._unread.discard(token)
        tokens = self._sizes[token].tokens
        self.lapsed_blocks -= len(blocks)
        self.lapsed_tokens -= tokens
        self.held_blocks += len(blocks)
        self.held_tokens += tokens
        self._pool.hold(blocks)

    def forget(self, token: int) -> None:
        """The lease's word is clear: gives its blocks back if it holds them, which are nobody's from now on."""
        blocks = self._lapsed.pop(token, None)
        tokens = self._sizes.pop(token).tokens
        if blocks is not None:
            self._unread.discard(token)
            self.lapsed_blocks -= len(blocks)
            self.lapsed_tokens -= tokens
        else:
            blocks = self._held.pop(token)
            self.held_blocks -= len(blocks)
            self.held_tokens -= tokens
            self._pool.give_back(blocks, last=False)
        for block in blocks:
            self._owners.remove(block, token)


class _Owners:
    """The leases that each block belongs to: nearly always one, but a block of a common prefix may have thousands.

    So adding and removing one costs the same at any number of them.
    """

    def __init__(self) -> None:
        self._sole: dict[int, int] = {}
        """The lease of each block that has only one."""
        self._shared: dict[int, dict[int, None]] = {}
        """The leases of each other block, in the order of their grants."""

    def of(self, block: int) -> tuple[int, ...]:
        sole = self._sole.get(block)
        return tuple(self._shared.get(block, ())) if sole is None else (sole,)

    def add(self, block: int, token: int) -> bool:
        """Tells whether the block was no other lease's."""
        shared = self._shared.get(block)
        if shared is not None:
            shared[token] = None
        elif (sole := self._sole.pop(block, None)) is not None:
            self._shared[block] = {sole: None, token: None}
        else:
            self._sole[block] = token
            return True
        return False

    def remove(self, block: int, token: int) -> None:
        shared = self._shared.get(block)
        if shared is None:
            del self._sole[block]
            return
        del shared[token]
        if len(shared) == 1:
            (self._sole[block],) = self._shared.pop(block)
