"""The surroundings of the product's parts in the explored world: a clock, a network, cards and memory, all of which are
plain data, so that a part can be copied by pickling it.

Nothing here decides anything. What an agent sends lies in an outbox, and what becomes of it is an action of the world.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from kvlease.errors import CardUnavailable, PeerGone
from kvlease.fence import AgentErrors, FenceVerifier
from kvlease.fence.words import WORD_BYTES
from kvlease.protocol import Endpoint, LeaseCard
from kvlease.protocol.messages import Probe, encode
from kvlease.testing.clock import ManualClock
from kvlease.testing.data_agent import OwnMemory

_PROBE = encode(Probe())


class Wire:
    """An agent's `Transport`. It notices a death when something is sent, as NIXL does.

    `gone` are the incarnations whose death shows; it is set before each turn. A Probe is not carried: sending it may
    show a death, and its receiver does nothing.
    """

    def __init__(self, incarnation: int) -> None:
        self.foreign = 0
        self.incarnation = incarnation
        self.reachable: dict[int, bool] = {}
        self.gone: frozenset[int] = frozenset()
        self.inbox: list[tuple[int, bytes]] = []
        self.outbox: list[tuple[int, bytes]] = []

    @property
    def address(self) -> bytes:
        return self.incarnation.to_bytes(8, "little")

    def connect(self, peer: int, address: bytes) -> None:
        if self.reachable.get(peer, False):
            return
        if peer in self.reachable or peer in self.gone or address != peer.to_bytes(8, "little"):
            raise PeerGone(f"{peer:#x} cannot be reached")
        self.reachable[peer] = True

    def send(self, peer: int, payload: bytes) -> None:
        if peer in self.gone and peer in self.reachable:
            self.reachable[peer] = False
        if not self.reachable.get(peer, False):
            raise PeerGone(f"{peer:#x} cannot be reached")
        if payload != _PROBE:
            self.outbox.append((peer, payload))

    def suspect(self, peer: int) -> None:
        """Take `peer` for dead, which it may not be, until it is disconnected."""
        if peer in self.reachable:
            self.reachable[peer] = False

    def receive(self) -> list[tuple[int, bytes]]:
        inbox, self.inbox = self.inbox, []
        return inbox

    def disconnect(self, peer: int) -> None:
        self.reachable.pop(peer, None)

    def close(self) -> None:
        self.reachable.clear()


class AskedCards:
    """An agent's `CardSource`: the world answers what is asked."""

    def __init__(self) -> None:
        self.asked: list[Endpoint] = []
        self.answered: list[tuple[Endpoint, LeaseCard | None]] = []

    def ask(self, endpoint: Endpoint) -> None:
        self.asked.append(endpoint)

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        answered, self.answered = self.answered, []
        return answered

    def close(self) -> None: ...


class CardPromise:
    """The future of a card, as far as `KnownFences` uses one.

    It can be copied, unlike that of `concurrent.futures`. So it keeps no callbacks: the engine that gets the card
    admits the request again by itself.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.card: LeaseCard | None = None

    def add_done_callback(self, callback: Callable[[Any], object]) -> None: ...

    def result(self) -> LeaseCard:
        if self.card is None:
            raise CardUnavailable("nobody answers")
        return self.card


class ListedWords(list[int]):
    """`Words` that can be copied: a list. Its addresses begin at 0 and mean nothing elsewhere."""

    base = 0

    def __init__(self, count: int) -> None:
        super().__init__([0] * count)

    def address(self, index: int) -> int:
        return self.base + index * WORD_BYTES

    def deregister(self) -> None: ...


class ReadFailed(Exception):
    """The peer of a read is dead: nothing can land any more."""


_ERRORS = AgentErrors((ReadFailed,), ReadFailed)


@dataclass(slots=True)
class WordRead:
    """A read of a fence word under way: of the word at `remote` of `agent`, to landing word `local`."""

    agent: str
    remote: int
    local: int
    state: str = "PROC"


@dataclass(slots=True)
class ListedReads(OwnMemory):
    """A worker's `DataAgent`. `reads` are under way, in the order in which they were posted."""

    reads: list[WordRead] = field(default_factory=list)

    def initialize_xfer(self, operation: str, local_descs: Any, remote_descs: Any, remote_agent: str) -> WordRead:
        assert operation == "READ"
        return WordRead(remote_agent, remote_descs, local_descs)

    def transfer(self, handle: WordRead) -> str:
        self.reads.append(handle)
        return handle.state

    def check_xfer_state(self, handle: WordRead) -> str:
        if handle.state == "LOST":
            raise ReadFailed(handle.agent)
        return handle.state

    def release_xfer_handle(self, handle: WordRead) -> None:
        if handle in self.reads:
            self.reads.remove(handle)


def no_cards(endpoint: Endpoint) -> "Future[LeaseCard]":
    """A producer's worker asks for no card."""
    raise AssertionError(endpoint)


def new_verifier(plane: ListedReads, landing: ListedWords, clock: ManualClock) -> FenceVerifier:
    """Makes a verifier that waits for nothing."""
    return FenceVerifier(plane, landing, errors=_ERRORS, settle_us=0.0, lost_after_s=1e6, clock=clock)
