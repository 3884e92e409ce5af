"""Which lease has which slot of the fence, on the producer's scheduler side.

The words themselves lie with the workers; here is who they belong to, and what the workers are to do in the next step.
A slot is given out again only after every worker has cleared its word, and a token never (S3).
"""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Word:
    """The fence word of a request's lease: `token` at index `slot` of every worker's table."""

    request_id: str
    slot: int
    token: int


@dataclass(frozen=True, slots=True)
class FenceOrders:
    """What every worker is to do to its table in one step, first `arm`, then `clear`."""

    arm: tuple[Word, ...] = ()
    clear: tuple[Word, ...] = ()


NO_ORDERS = FenceOrders()
"""Of nearly every step."""


def draw_token() -> int:
    """A random u64 that is not 0. Guessing one is as hard as guessing a key; 2^64 is enough not to meet one twice."""
    while (token := secrets.randbits(64)) == 0:
        pass
    return token


@dataclass(slots=True)
class FenceLedger:
    """The slots of `workers` equal fence tables. Used by the scheduler's thread alone; every call costs O(1)."""

    slots: int
    workers: int
    draw: Callable[[], int] = draw_token
    has_orders: bool = field(init=False, default=False)
    """Whether `take_orders` would give any. Kept, not derived, since every step asks."""
    _free: deque[int] = field(init=False)
    _words: dict[str, Word] = field(init=False, default_factory=dict)
    _by_token: dict[int, Word] = field(init=False, default_factory=dict)
    _by_slot: dict[int, Word] = field(init=False, default_factory=dict)
    _cleared: Counter[int] = field(init=False, default_factory=Counter)
    _ordered: set[int] = field(init=False, default_factory=set)
    _arm: list[Word] = field(init=False, default_factory=list)
    _clear: list[Word] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # First in, first out: the longer a slot rests, the better.
        self._free = deque(range(self.slots))

    def __len__(self) -> int:
        """Slots in use, those whose clearing is not yet reported included."""
        return len(self._by_slot)

    def word(self, request_id: str) -> Word | None:
        """The word of this request's lease, from `prepare` until its clearing is ordered."""
        return self._words.get(request_id)

    def prepare(self, request_id: str) -> Word | None:
        """Take a slot and order every worker to arm it; None when all are in use. The lease is PREPARED."""
        assert request_id not in self._words, f"{request_id} is prepared already"
        if not self._free:
            return None
        token = self.draw()
        assert token not in self._by_token, f"token {token:016x} names two leases"
        word = Word(request_id, self._free.popleft(), token)
        self._words[request_id] = self._by_token[token] = self._by_slot[word.slot] = word
        self._arm.append(word)
        self.has_orders = True
        return word

    def clear(self, token: int) -> None:
        """Order every worker to clear the lease's word; a no-op for a lease that is cleared or about to be."""
        word = self._by_token.get(token)
        if word is None or token in self._ordered:
            return
        self._ordered.add(token)
        self._words.pop(word.request_id, None)
        self._clear.append(word)
        self.has_orders = True

    def take_orders(self) -> FenceOrders:
        """What the workers are to do in this step; each order is handed out once. `NO_ORDERS` when there is nothing."""
        if not self.has_orders:
            return NO_ORDERS
        orders = FenceOrders(tuple(self._arm), tuple(self._clear))
        self._arm.clear()
        self._clear.clear()
        self.has_orders = False
        return orders

    def report(self, cleared: Mapping[int, int]) -> list[Word]:
        """Workers have cleared these slots (slot to number of workers). Returns the words now clear in all of them."""
        done = []
        for slot, workers in cleared.items():
            word = self._by_slot[slot]
            self._cleared[slot] += workers
            assert self._cleared[slot] <= self.workers, f"slot {slot} cleared by more workers than there are"
            if self._cleared[slot] == self.workers:
                self._retire(word)
                done.append(word)
        return done

    def _retire(self, word: Word) -> None:
        del self._cleared[word.slot], self._by_slot[word.slot], self._by_token[word.token]
        if self._words.get(word.request_id) is word:
            # Otherwise the same name came again meanwhile, and this is its own word by now.
            del self._words[word.request_id]
        self._ordered.discard(word.token)
        self._free.append(word.slot)
