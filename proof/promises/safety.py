"""The safety promises S1 to S3 and S5 (docs/protocol/index.md), judged by facts, not by what tested code believes.

Whoever plays a world, the simulator or the explorer, tells `Safety` what happens to slots, words, blocks and data as it
happens. It keeps its own books, and raises `Violation` with the fact that must not be.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


class Violation(AssertionError):
    """A broken promise. `rule` is its number (S1 … L3), the message says what broke it."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Violation) and (self.rule, self.text) == (other.rule, other.text)

    def __hash__(self) -> int:
        return hash((self.rule, self.text))

    def __reduce__(self) -> "tuple[type[Violation], tuple[str, str]]":
        return Violation, (self.rule, self.text)


@dataclass(slots=True)
class _LeaseFacts:
    producer: int
    slot: int
    granted: bool = False
    given: bool = False
    """True once one of its blocks was given to somebody else."""


@dataclass(slots=True)
class Safety:
    """The books of a world. Producers are incarnations, workers ranks, tokens u64; `holder` is a consumer's request."""

    leases: dict[int, _LeaseFacts] = field(default_factory=dict)
    _slots: dict[tuple[int, int], int] = field(default_factory=dict)
    """(producer, slot) to the token that has it, until every worker has cleared it."""
    _words: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    """(producer, slot) to worker to the token that its word holds; clear words are left out."""
    _workers: dict[int, int] = field(default_factory=dict)
    _leases_of: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    """(producer, block) to the granted leases that the block belongs to."""
    _late: set[tuple[int, str]] = field(default_factory=set)
    """(consumer, holder) of reads that ended after one of their blocks had been given to somebody else."""

    # -- producers -----------------------------------------------------------------------------------------------

    def producer_starts(self, producer: int, workers: int) -> None:
        self._workers[producer] = workers

    def producer_ends(self, producer: int) -> None:
        """A producer crashed or shut down: its memory is gone, words and blocks with it."""
        self._slots = {key: token for key, token in self._slots.items() if key[0] != producer}
        self._words = {key: words for key, words in self._words.items() if key[0] != producer}
        self._leases_of = {key: tokens for key, tokens in self._leases_of.items() if key[0] != producer}
        for facts in self.leases.values():
            if facts.producer == producer:
                facts.given = True

    def prepared(self, producer: int, slot: int, token: int) -> None:
        """A lease is PREPARED: its slot is taken (S3)."""
        if token in self.leases:
            raise Violation("S3", f"token {token:016x} names two leases")
        if (other := self._slots.get((producer, slot))) is not None:
            raise Violation("S3", f"slot {slot} is given to {token:016x} and still has {other:016x}")
        if words := self._words.get((producer, slot)):
            raise Violation("S3", f"slot {slot} is given to {token:016x} and is armed: {_words(words)}")
        self.leases[token] = _LeaseFacts(producer, slot)
        self._slots[producer, slot] = token

    def armed(self, producer: int, worker: int, slot: int, token: int) -> None:
        """A worker wrote the token into the word."""
        words = self._words.setdefault((producer, slot), {})
        if words.get(worker, token) != token:
            raise Violation("S3", f"slot {slot} of worker {worker} held {words[worker]:016x}, now {token:016x}")
        if self._slots.get((producer, slot)) != token:
            raise Violation("S3", f"worker {worker} armed {token:016x} in slot {slot}, which it does not have")
        words[worker] = token

    def cleared(self, producer: int, worker: int, slot: int) -> None:
        """A worker wrote 0 into the word."""
        words = self._words.get((producer, slot), {})
        words.pop(worker, None)
        if not words:
            self._words.pop((producer, slot), None)

    def slot_released(self, producer: int, slot: int) -> None:
        """The scheduler counts the slot as free: every worker has to have cleared it (S3)."""
        if words := self._words.get((producer, slot)):
            raise Violation("S3", f"slot {slot} is free and still armed: {_words(words)}")
        self._slots.pop((producer, slot), None)

    def granted(self, producer: int, token: int, blocks: Iterable[int]) -> None:
        """The reference leaves the producer: from now on somebody may read these blocks."""
        facts = self.leases[token]
        words = self._words.get((producer, facts.slot), {})
        if list(words.values()).count(token) != self._workers[producer]:
            raise Violation("S2", f"lease {token:016x} is offered, armed in {len(words)} workers only")
        facts.granted = True
        for block in blocks:
            self._leases_of[producer, block] = (*self._leases_of.get((producer, block), ()), token)

    def given(self, producer: int, block: int) -> None:
        """A block is given to somebody to write into: no worker may still vouch for it (S2)."""
        for token in self._leases_of.pop((producer, block), ()):
            facts = self.leases[token]
            words = self._words.get((producer, facts.slot), {})
            if token in words.values():
                raise Violation("S2", f"block {block} of {token:016x} is given away, and armed is {_words(words)}")
            facts.given = True

    def vouched(self, producer: int, block: int) -> list[int]:
        """Returns the leases of a block that some worker still vouches for."""
        tokens = self._leases_of.get((producer, block), ())
        return [t for t in tokens if t in self._words.get((producer, self.leases[t].slot), {}).values()]

    def is_readable(self, producer: int, token: int, slot: int) -> bool:
        """Tells whether every worker vouches for the lease, whose reference names this slot."""
        words = self._words.get((producer, slot), {})
        return list(words.values()).count(token) == self._workers[producer]

    # -- consumers -----------------------------------------------------------------------------------------------

    def read_ended(self, consumer: int, holder: str, token: int) -> None:
        """The last byte of the data that one worker of the consumer reads for this request has arrived."""
        facts = self.leases.get(token)
        if facts is None or facts.given:
            self._late.add((consumer, holder))

    def used(self, consumer: int, holder: str, token: int, read: int, contents: Iterable[int | None]) -> None:
        """The request goes on from the data that was read: it has to be the lease's own, all of it (S1).

        `token` is that of the lease on what was computed for this request; `read` is that of the lease whose reference
        it came with (S5). `contents` has, for every block that was read by every worker, the token of the lease that
        the block was written for.
        """
        if read != token and read in self.leases:
            raise Violation("S5", f"{holder} goes on from another prompt's lease, {read:016x}; its own is {token:016x}")
        wrong = sorted({f"{content:016x}" if content else "nobody" for content in contents if content != token})
        if wrong:
            raise Violation("S1", f"{holder} goes on from data of {', '.join(wrong)}; its lease is {token:016x}")
        if (consumer, holder) in self._late:
            raise Violation("S1", f"{holder} goes on from blocks of {token:016x} that others had before it had read")

    def forgotten(self, consumer: int, holder: str) -> None:
        """The request is over at this consumer, or is read again from the start."""
        self._late.discard((consumer, holder))


def _words(words: dict[int, int]) -> str:
    return ", ".join(f"worker {worker}: {token:016x}" for worker, token in sorted(words.items()))
