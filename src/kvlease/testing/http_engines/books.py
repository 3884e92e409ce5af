"""Books of a fake engine: what it counts, and a producer's leases with how each ended."""

import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvlease.protocol import Fingerprint, LeaseRef

_KEPT_PROMPTS = 200_000
"""The number of prompts that are remembered, for the count of those that were prefilled twice."""


class PromptCounts:
    """The prompts that an engine computed."""

    def __init__(self) -> None:
        self._times: OrderedDict[int, int] = OrderedDict()
        self.total = 0
        self.tokens = 0
        """The tokens of all of them."""
        self.repeated = 0
        """The number of those of a prompt that this engine had computed before."""

    def add(self, digest: int, tokens: int) -> None:
        """Counts a prompt."""
        self.total += 1
        self.tokens += tokens
        times = self._times.pop(digest, 0)
        self.repeated += times > 0
        self._times[digest] = times + 1
        if len(self._times) > _KEPT_PROMPTS:
            self._times.popitem(last=False)

    def times(self, digest: int) -> int:
        """Returns how often this prompt was computed."""
        return self._times.get(digest, 0)


@dataclass(slots=True)
class HeldBlocks:
    """One prompt's blocks, held for whoever reads them."""

    digest: int
    tokens: int
    until: float
    """The end of the term, or of the grace after a reader's death."""
    reader: object | None = None
    """The connection of the consumer that claimed them."""


class FakeLeases:
    """The leases of a fake producer. Pure: every call takes `now`, in seconds.

    A lease ends when it is read, released, or when its term is over: the last is what a router must never let happen
    to a request that it knows has ended, and is counted as `stranded`.
    """

    def __init__(self, incarnation: int, *, term_s: float, grace_s: float, leased: bool) -> None:
        self._incarnation = incarnation
        self._term_s = term_s
        self._grace_s = grace_s
        self._leased = leased
        self._held: dict[str, HeldBlocks] = {}
        self.ended: Counter[str] = Counter()
        """The numbers of leases granted, claimed, read, released, returned, stranded, and of claims refused."""

    def __len__(self) -> int:
        return len(self._held)

    @property
    def claimed(self) -> int:
        """The number of those that are being read."""
        return sum(each.reader is not None for each in self._held.values())

    def grant(self, now: float, digest: int, tokens: int) -> dict[str, Any]:
        """Holds a prompt's blocks, and returns the part of the offer that names them."""
        token = secrets.randbits(63) | 1
        self._held[f"{token:016x}"] = HeldBlocks(digest, tokens, now + self._term_s)
        self.ended["granted"] += 1
        slot = len(self._held)
        offer: dict[str, Any] = {"remote_block_ids": [[slot]], "remote_request_id": f"{token:016x}"}
        if self._leased:
            term_ms = int(self._term_s * 1000)
            ref = LeaseRef(self._incarnation, token, slot, term_ms, Fingerprint(tokens, digest))
            offer["kv_lease"] = ref.to_params()
        return offer

    def claim(self, now: float, name: str, digest: int, reader: object) -> bool:
        """A consumer asks for the blocks of its prompt. Only one has them at a time."""
        self.expire(now)
        held = self._held.get(name)
        if held is None or held.digest != digest or held.reader is not None:
            self.ended["refused"] += 1
            return False
        held.reader = reader
        self.ended["claimed"] += 1
        return True

    def end(self, name: str, how: str) -> bool:
        """Frees a lease's blocks. Returns whether there were any; `how`: read or released."""
        if self._held.pop(name, None) is None:
            return False
        self.ended[how] += 1
        return True

    def give_back(self, now: float, name: str) -> bool:
        """A consumer that will not read a lease lets another one have it, within the grace."""
        held = self._held.get(name)
        if held is None:
            return False
        held.reader, held.until = None, min(held.until, now + self._grace_s)
        self.ended["returned"] += 1
        return True

    def gone(self, now: float, reader: object) -> None:
        """A consumer has died: what it was reading is there for others, within the grace."""
        for name in [name for name, held in self._held.items() if held.reader is reader]:
            self.give_back(now, name)

    def expire(self, now: float) -> None:
        """Ends what nobody has claimed in time."""
        over = [name for name, held in self._held.items() if held.reader is None and held.until <= now]
        for name in over:
            self.end(name, "stranded")


class Books:
    """All that a fake engine has counted, as `GET /books` shows it."""

    def __init__(self, leases: FakeLeases) -> None:
        self.leases = leases
        self.prefills = PromptCounts()
        self.calls: Counter[str] = Counter()
        """The requests by how they ended: answered, refused, cancelled (the client went), broken (by a fault)."""
        self.reads: Counter[str] = Counter()
        """A consumer's references: read, recomputed (refused, so it computed the prompt), unfenced (freed before)."""
        self.running = 0
        self.most_running = 0

    def enter(self) -> None:
        """Counts a request that begins."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)

    def leave(self, how: str) -> None:
        """Counts a request that ends."""
        self.running -= 1
        self.calls[how] += 1

    def shown(self, now: float) -> Mapping[str, Any]:
        """Returns them as JSON."""
        self.leases.expire(now)
        prefills = self.prefills
        return {
            "calls": dict(self.calls),
            "running": self.running,
            "most_running": self.most_running,
            "prefills": {"total": prefills.total, "tokens": prefills.tokens, "repeated": prefills.repeated},
            "leases": {**self.leases.ended, "out": len(self.leases), "being_read": self.leases.claimed},
            "reads": dict(self.reads),
        }
