"""The network between lease agents: links that lose, repeat, delay, hold back and cut, and processes that die.

Messages go out without waiting, as over NIXL, and may arrive in any order; a transport learns of a peer's death, if at
all, when it sends. Nobody is told of a link that is cut.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kvlease.errors import BadMessage, PeerGone
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Probe, Renew, Welcome, decode
from kvlease.simulation.chance import Chance
from proof.simulate.clock import BoundedAgenda

USUAL_DELAY_S = 0.0005
LONGEST_DELAY_S = 8.0
"""The longest time for which a message is under way, however heavy the tail."""
GHOST_S = 6.0
"""The longest time after which a repeated copy may still arrive."""
HISTORY = 200
"""Messages of a link that are remembered for echoes."""


@dataclass(slots=True)
class Link:
    """One direction between two engines (by name). Faults set and reset its fields."""

    chance: random.Random
    loss: float = 0.0
    repeat: float = 0.0
    delay_s: float = 0.0
    clogged: int = 0
    cut: int = 0
    """The number of faults that cut the link now; `clogged` is that of those that clog it."""
    held: list[Callable[[], None]] = field(default_factory=list)
    history: list[tuple[int, int, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class Port:
    """An incarnation's place on the network."""

    engine: str
    inbox: list[tuple[int, bytes]] = field(default_factory=list)
    alive: bool = True
    death_shows: bool = True
    """True where others' transports notice that it is dead."""


class SimNetwork:
    """All links, and all incarnations that have ever joined."""

    def __init__(self, agenda: BoundedAgenda, chance: Chance, arrived: Callable[[int, int, bytes], None]) -> None:
        """`arrived` is told of every message that gets through, as (source, target, payload)."""
        self.counts: Counter[str] = Counter()
        self.ports: dict[int, Port] = {}
        self._agenda = agenda
        self._chance = chance
        self._arrived = arrived
        self._links: dict[tuple[str, str], Link] = {}

    def link(self, source: str, target: str) -> Link:
        key = source, target
        if key not in self._links:
            self._links[key] = Link(self._chance.of(f"link {source}>{target}"))
        return self._links[key]

    def join(self, incarnation: int, engine: str) -> None:
        assert incarnation not in self.ports
        self.ports[incarnation] = Port(engine)

    def leave(self, incarnation: int, death_shows: bool) -> None:
        """Take a process off the network; what it sent before still arrives."""
        port = self.ports[incarnation]
        port.alive, port.death_shows = False, death_shows
        port.inbox.clear()

    def reachable(self, source: str, target: str) -> bool:
        return not self.link(source, target).cut

    def send(self, source: int, target: int, payload: bytes) -> None:
        link = self.link(self.ports[source].engine, self.ports[target].engine)
        link.history.append((source, target, payload))
        del link.history[:-HISTORY]
        self.counts["sent"] += 1
        if link.repeat and link.chance.random() < link.repeat:
            self.counts["repeated"] += 1
            self._fly(source, target, payload, link.chance.random() * GHOST_S)
        if link.cut or (link.loss and link.chance.random() < link.loss):
            self.counts["lost"] += 1
            return
        delay_s = USUAL_DELAY_S * (0.5 + link.chance.random())
        if link.delay_s:
            delay_s += min(link.delay_s * (link.chance.paretovariate(1.2) - 1.0), LONGEST_DELAY_S)
        if link.clogged:
            link.held.append(lambda: self._fly(source, target, payload, delay_s))
        else:
            self._fly(source, target, payload, delay_s)

    def echo(self, source: str, target: str, back: float) -> None:
        """Let a message of this link arrive again; `back` is 0 for the latest of its kind, near 1 for the oldest."""
        link = self.link(source, target)
        kinds = sorted({_kind(payload) for _, _, payload in link.history})
        if kinds:
            kind = link.chance.choice(kinds)
            history = [item for item in link.history if _kind(item[2]) == kind]
            self._fly(*history[-1 - int(back * len(history)) % len(history)], 0.0)

    def unclog(self, source: str, target: str) -> None:
        """Deliver what was held back, all at once, in an order of chance."""
        link = self.link(source, target)
        held, link.held = link.held, []
        link.chance.shuffle(held)
        for deliver in held:
            deliver()

    def deliver(self, source: int, target: int, payload: bytes) -> None:
        port = self.ports[target]
        if port.alive:
            port.inbox.append((source, payload))
            self._arrived(source, target, payload)

    def _fly(self, source: int, target: int, payload: bytes, delay_s: float) -> None:
        self._agenda.after(delay_s, lambda: self.deliver(source, target, payload))


class SimTransport:
    """One agent's `kvlease.agent.transport.Transport` on a `SimNetwork`."""

    def __init__(self, network: SimNetwork, incarnation: int, chance: random.Random) -> None:
        # Nobody but lease agents is on this network.
        self.foreign = 0
        self._network = network
        self._incarnation = incarnation
        self._chance = chance
        self.interrupt: Callable[[], None] = lambda: None
        """Called between the moments at which the agent takes what has arrived, and at which it acts on it."""
        self._believed: dict[int, bool] = {}
        """Connected peers; False for one that was found dead, until it is disconnected."""

    @property
    def address(self) -> bytes:
        """The incarnation as 8 bytes; nothing else is needed to find it."""
        return self._incarnation.to_bytes(8, "little")

    def connect(self, peer: int, address: bytes) -> None:
        """Connect a peer (`Transport.connect`). Raises `PeerGone` for one that was found dead, until disconnected."""
        assert address == peer.to_bytes(8, "little"), f"connect {peer:x} at {address.hex()}"
        if not self._believed.setdefault(peer, True):
            raise PeerGone(f"{peer:x} was found dead: disconnect it before connecting again")

    def send(self, peer: int, payload: bytes) -> None:
        """Send (`Transport.send`). Raises `PeerGone` for most messages, not all, to a peer whose death shows."""
        if not self._believed.get(peer, False):
            raise PeerGone(f"{peer:x} is {'dead' if peer in self._believed else 'not connected'}")
        port = self._network.ports[peer]
        if not port.alive and port.death_shows and self._chance.random() < 0.8:
            self._believed[peer] = False
            raise PeerGone(f"{peer:x} is dead")
        self._network.send(self._incarnation, peer, payload)

    def doubt(self, peer: int) -> None:
        """Let this transport believe from now on that the peer is dead, right or wrong."""
        if peer in self._believed:
            self._believed[peer] = False

    def receive(self) -> list[tuple[int, bytes]]:
        """The messages since the last call, as (peer, payload) (`Transport.receive`)."""
        port = self._network.ports[self._incarnation]
        arrived, port.inbox = port.inbox, []
        if arrived:
            self.interrupt()
        return arrived

    def disconnect(self, peer: int) -> None:
        """Forget a peer, and that it was found dead (`Transport.disconnect`)."""
        self._believed.pop(peer, None)

    @property
    def connected(self) -> list[int]:
        return list(self._believed)

    def close(self) -> None:
        """Forget all peers (`Transport.close`)."""
        self._believed.clear()


def is_hello(payload: bytes) -> bool:
    try:
        return isinstance(decode(payload), Hello)
    except BadMessage:
        return False


def _kind(payload: bytes) -> str:
    return type(decode(payload)).__name__


def describe(payload: bytes) -> str | None:
    """Describes a message for the trace; None for a Probe, which says nothing."""
    try:
        message = decode(payload)
    except BadMessage as e:
        return f"bytes that are no message ({e.kind})"
    match message:
        case Probe():
            return None
        case Renew(seq, claims, drops, session):
            return f"Renew {seq} of session {session}, claims {_tokens(claims)}, drops {_tokens(drops)}"
        case Ack(seq, unknown, reopen):
            return f"Ack {seq}, unknown {_tokens(unknown)}{', reopen' if reopen else ''}"
        case Gone(tokens):
            return f"Gone {_tokens(tokens)}"
        case Hello():
            return f"Hello {message.seq}"
        case Welcome():
            return f"Welcome to Hello {message.hello_seq}, session {message.session}"
        case Bye(seq):
            return f"Bye {seq}"


def _tokens(tokens: list[int]) -> str:
    return "[" + " ".join(f"{token:016x}" for token in tokens) + "]"
