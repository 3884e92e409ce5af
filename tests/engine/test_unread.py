"""A lease that lapsed unread outlives those that were read, for a while, and costs each prompt one move at most."""

from kvlease.engine.leased_blocks import LeasedBlocks
from kvlease.engine.unread import CHANCES, UnreadLeases
from kvlease.testing.pool import CountedPool

BLOCKS, A_PROMPT = 40, 4
CYCLE = BLOCKS // A_PROMPT


class Prompts:
    """A pool, and prompts that come one after the other. `cached`: its blocks are cached, and so reused in turn."""

    def __init__(self, *, cached: bool = True) -> None:
        self.cached = cached
        self.pool = CountedPool(BLOCKS)
        self.leased = LeasedBlocks(self.pool)
        self.ended: list[int] = []
        self.pool.watch(self._reused)
        self.asked = 0
        self._next = 1

    def _reused(self, block: int) -> None:
        for token in self.leased.of(block):
            self.leased.forget(token)
            self.ended.append(token)

    def come(self, *, read: bool = True) -> int:
        """A prompt is computed and leased, and its lease lapses at once."""
        token, self._next = self._next, self._next + 1
        blocks = self.pool.take(A_PROMPT)
        if self.cached:
            self.pool.cache(blocks)
        self.leased.hold(token, blocks)
        self.pool.give_back(blocks)
        self.leased.lapse(token, last=not read)
        return token

    def until_it_ends(self, token: int) -> int:
        """The number of prompts that are read until this lease has ended."""
        for number in range(1, 100 * CYCLE):
            self.come()
            if token in self.ended:
                return number
        raise AssertionError("it does not end")


def test_what_was_read_lasts_until_all_blocks_were_given_away_once() -> None:
    prompts = Prompts()
    assert prompts.until_it_ends(prompts.come()) == CYCLE


def test_what_was_not_read_has_some_chances_more_and_ends() -> None:
    prompts = Prompts()
    lasted = prompts.until_it_ends(prompts.come(read=False))
    # Each time half of the others have gone before it.
    assert CHANCES * CYCLE // 2 + CYCLE - CHANCES <= lasted <= CHANCES * (CYCLE // 2 + 1) + CYCLE


def test_blocks_that_were_found_in_the_cache_cost_no_chance() -> None:
    prompts = Prompts()
    token = prompts.come(read=False)
    first = prompts.pool.take(A_PROMPT)
    prompts.leased.hold(1000, first)
    for number in range(100 * CHANCES * CYCLE):
        prompts.leased.hold(1001 + number, first)
    assert prompts.ended == []
    prompts.leased.forget(1000)
    assert prompts.until_it_ends(token) >= CHANCES * CYCLE // 2


def test_without_a_cache_a_lease_is_moved_behind_the_others_as_well() -> None:
    """There the blocks that were freed last are taken first, so a lapsed lease lasts until all are needed at once."""
    prompts = Prompts(cached=False)
    token = prompts.come(read=False)
    lapsed = set(prompts.pool.queue[-A_PROMPT:])
    for _ in range(3 * CHANCES * CYCLE):
        blocks = prompts.pool.take(A_PROMPT)
        prompts.leased.hold(-1, blocks)
        prompts.leased.forget(-1)
        prompts.pool.give_back(blocks)
        assert set(prompts.pool.queue[-A_PROMPT:]) == lapsed
    prompts.pool.take(prompts.pool.free)
    assert prompts.ended == [token]


def test_a_lease_that_lives_again_has_all_its_chances_when_it_lapses_unread_once_more() -> None:
    prompts = Prompts()
    token = prompts.come(read=False)
    for _ in range(CHANCES * CYCLE // 2):
        prompts.come()
    prompts.leased.revive(token)
    for _ in range(3 * CYCLE):
        prompts.come()
    assert prompts.ended.count(token) == 0
    prompts.leased.lapse(token, last=True)
    assert prompts.until_it_ends(token) > CHANCES * CYCLE // 2


def test_a_lease_that_lives_again_and_is_read_has_no_chance_more() -> None:
    prompts = Prompts()
    token = prompts.come(read=False)
    prompts.leased.revive(token)
    prompts.leased.lapse(token, last=False)
    assert prompts.until_it_ends(token) == CYCLE


def test_leases_that_all_lapse_unread_are_reused_and_nothing_is_remembered_of_them() -> None:
    """R12: abandoned leases get in nobody's way. Each prompt moves one at most, and what has ended is forgotten."""
    prompts = Prompts()
    for _ in range(50 * CYCLE):
        prompts.come(read=False)
    assert len(prompts.ended) >= 50 * CYCLE - CYCLE
    assert prompts.leased.lapsed_leases <= CYCLE


def test_a_step_moves_one_lease_at_most_and_the_first_that_is_due() -> None:
    unread = UnreadLeases()
    for token in (1, 2, 3):
        unread.add(token, free=10)
    assert unread.take(4) is None
    unread.discard(1)
    assert unread.take(1) == (2, CHANCES - 1)
    assert unread.take(100) == (3, CHANCES - 1)
    assert unread.take(100) is None


def test_a_lease_without_a_chance_left_is_not_moved() -> None:
    unread = UnreadLeases()
    unread.add(1, free=10, chances=0)
    assert unread.take(100) is None
