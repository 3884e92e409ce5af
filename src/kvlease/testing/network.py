"""A network inside one process, for kvlease's own tests and those of its users.

    network = MemoryNetwork()
    producer, consumer = MemoryTransport(network, 1), MemoryTransport(network, 2)
    consumer.connect(1, producer.address)
    consumer.send(1, b"renew")
    assert producer.receive() == [(2, b"renew")]

    network.fault = lambda sender, receiver, payload: Fate.DROP
    consumer.send(1, b"lost")
    assert producer.receive() == []

    network.kill(1)
    consumer.send(1, b"too late")  # raises PeerGone

It knows no time: a message has arrived when `send` returns, unless the fault says otherwise.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from kvlease.errors import PeerGone

Message = tuple[int, bytes]
"""The sender's incarnation, and the payload."""


class Fate(Enum):
    """The fate of a message."""

    DELIVER = auto()
    DROP = auto()
    DUPLICATE = auto()
    HOLD = auto()
    """The message is kept back until `MemoryNetwork.release`, so later ones overtake it."""


Fault = Callable[[int, int, bytes], Fate]
"""Decides on a message by sender's incarnation, receiver's incarnation and payload. The network is locked during it."""


class MemoryNetwork:
    """Connects `MemoryTransport`s with each other. Safe to use from any thread.

    Attributes: `fault` decides about each message; None delivers all. It may be replaced at any time.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self._lock = threading.Lock()
        self._inboxes: dict[int, deque[Message]] = {}
        self._held: list[tuple[int, Message]] = []

    def kill(self, incarnation: int) -> None:
        """End a process: what it had not received is lost, and from now on sends to it raise `PeerGone`.

        What it sent before still arrives, as on a real network. Its own transport can neither send nor receive. A
        no-op when it is not there.
        """
        with self._lock:
            self._inboxes.pop(incarnation, None)
            self._held = [(receiver, message) for receiver, message in self._held if receiver != incarnation]

    def alive(self, incarnation: int) -> bool:
        """Tells whether `incarnation` has joined and was neither killed nor closed."""
        with self._lock:
            return incarnation in self._inboxes

    def release(self) -> int:
        """Deliver what was held, oldest first, past the fault. Returns how many messages."""
        with self._lock:
            held, self._held = self._held, []
            for receiver, message in held:
                self._inboxes[receiver].append(message)
            return len(held)

    def join(self, incarnation: int) -> None:
        """Adds a process. Raises `ValueError` when one of this incarnation is there."""
        with self._lock:
            if incarnation in self._inboxes:
                raise ValueError(f"incarnation {incarnation:#x} is on this network already")
            self._inboxes[incarnation] = deque()

    def carry(self, receiver: int, message: Message) -> bool:
        """Takes a message for `receiver`. Tells whether that lives; the message may be lost even so."""
        with self._lock:
            sender, payload = message
            if sender not in self._inboxes or receiver not in self._inboxes:
                return False
            fate = self.fault(sender, receiver, payload) if self.fault else Fate.DELIVER
            if fate is Fate.HOLD:
                self._held.append((receiver, message))
            elif fate is not Fate.DROP:
                self._inboxes[receiver].extend([message] * (2 if fate is Fate.DUPLICATE else 1))
            return True

    def collect(self, receiver: int) -> list[Message]:
        """Returns what has arrived for `receiver` since the last call."""
        with self._lock:
            inbox = self._inboxes.get(receiver)
            if not inbox:
                return []
            messages = list(inbox)
            inbox.clear()
            return messages


class MemoryTransport:
    """A `Transport` on a `MemoryNetwork`; like NIXL's, it receives from peers that it has not connected to."""

    def __init__(self, network: MemoryNetwork, incarnation: int) -> None:
        """Join `network`. Raises `ValueError` when `incarnation` (u64) is there already."""
        network.join(incarnation)
        self._network = network
        self._incarnation = incarnation
        # Only lease agents are on this network.
        self.foreign = 0
        # Connected peers: True while reachable, False once found dead, until disconnected.
        self._reachable: dict[int, bool] = {}

    @property
    def address(self) -> bytes:
        """The incarnation as 8 bytes; nothing else is needed to find it."""
        return self._incarnation.to_bytes(8, "little")

    @property
    def peers(self) -> frozenset[int]:
        """The incarnations that this one is connected to, whether or not they can still be reached."""
        return frozenset(self._reachable)

    def connect(self, peer: int, address: bytes) -> None:
        """Make `peer` reachable by `send`; a no-op when it is.

        Raises `PeerGone` when `address` is not that of `peer`, `peer` is dead, or was found dead and not disconnected.
        """
        if self._reachable.get(peer, False):
            return
        if peer in self._reachable:
            raise PeerGone(f"{peer:#x} was found dead: disconnect it before connecting again")
        if len(address) != 8 or int.from_bytes(address, "little") != peer:
            raise PeerGone(f"the address given for {peer:#x} is not its own")
        if not self._network.alive(peer):
            raise PeerGone(f"{peer:#x} is not on this network")
        self._reachable[peer] = True

    def send(self, peer: int, payload: bytes) -> None:
        """Hand `payload` to the network. Raises `PeerGone` when `peer` is not connected or dead."""
        if not self._reachable.get(peer, False):
            raise PeerGone(f"{peer:#x} is {'dead' if peer in self._reachable else 'not connected'}")
        if not self._network.carry(peer, (self._incarnation, payload)):
            self._reachable[peer] = False
            raise PeerGone(f"{peer:#x} cannot be reached any more")

    def receive(self) -> list[tuple[int, bytes]]:
        """Returns all that has arrived since the last call, as (sender's incarnation, payload)."""
        return self._network.collect(self._incarnation)

    def disconnect(self, peer: int) -> None:
        """Forget `peer`; a no-op when it is not connected."""
        self._reachable.pop(peer, None)

    def close(self) -> None:
        """Leaves the network; the others see it as a death."""
        self._reachable.clear()
        self._network.kill(self._incarnation)
