"""Engines that speak the protocol wrongly, and know all that is no secret: incarnations, and some leaked tokens.

A hostile engine hears what honest ones tell it, so that it can answer rightly in all but one point.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvlease.errors import BadMessage, PeerGone
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef
from kvlease.protocol.messages import MAX_MESSAGE_BYTES, VERSION, Hello, Renew, Welcome, decode
from kvlease.testing.network import MemoryTransport
from proof.hostile.choices import Choices
from proof.hostile.neighbourhood import ENGINES, Neighbourhood
from proof.hostile.wire import PREFIX, body

CLIENTS_AT_ONCE = 12
PEERS_AT_ONCE = 8


@dataclass
class Hostile:
    """One hostile incarnation, and the last messages that it heard from each engine."""

    transport: MemoryTransport
    incarnation: int
    endpoint: Endpoint
    session: dict[int, int] = field(default_factory=dict)
    """The numbers of its sessions, heard in Welcomes, by producer."""
    hello: dict[int, int] = field(default_factory=dict)
    """The seqs of the Hellos that it heard, by consumer."""
    renews: dict[int, list[int]] = field(default_factory=dict)
    """The seqs of the latest Renews that it heard, by consumer."""
    tokens: list[int] = field(default_factory=list)

    def listen(self) -> None:
        for sender, payload in self.transport.receive():
            match decode(payload):
                case Welcome(session=number):
                    self.session[sender] = number
                case Hello(seq=seq):
                    self.hello[sender] = seq
                case Renew(seq=seq, claims=claims):
                    self.renews[sender] = [*self.renews.get(sender, [])[-11:], seq]
                    self.tokens = claims[:8]


class Hostiles:
    """Hostile engines and clients, which do what `choices` say against a neighbourhood."""

    def __init__(self, world: Neighbourhood, choices: Choices) -> None:
        self.world = world
        self.choices = choices
        self.peers: list[Hostile] = []
        self.sent = 0
        self.malformed: dict[tuple[int, str], int] = {}
        """The number of malformed messages sent to each engine, by (its index, kind)."""
        self._current = 0
        self._seq = 1
        self._names = 0
        self._requests: list[tuple[int, str]] = []
        self.appear()

    def play(self, moves: int = 250) -> None:
        """Makes moves until the choices are used up, at most `moves`."""
        for _ in range(moves):
            if not self.choices.left:
                return
            self.choices.pick(MOVES)(self)

    # -- coming and going ----------------------------------------------------------------------------------------

    def appear(self) -> None:
        """Adds a new incarnation, which serves a card. The oldest one goes when there are many."""
        if len(self.peers) >= PEERS_AT_ONCE:
            self.vanish()
        self._names += 1
        incarnation = 0xBAD0000 + self._names
        transport = MemoryTransport(self.world.network, incarnation)
        endpoint = (f"hostile{self._names % PEERS_AT_ONCE}.example", 5600)
        self.peers.append(Hostile(transport, incarnation, endpoint))
        self._serve_own(self.peers[-1])

    def _serve_own(self, peer: Hostile) -> None:
        self.world.served[peer.endpoint] = LeaseCard([VERSION], peer.incarnation, peer.transport.address, [])

    def take_turns(self) -> None:
        """Makes another one of the hostile engines speak from now on."""
        self._current = self.choices.below(PEERS_AT_ONCE)

    def vanish(self) -> None:
        if len(self.peers) > 1:
            self.peers.pop(0).transport.close()

    def vanish_all(self) -> None:
        for peer in self.peers:
            peer.transport.close()
            self.world.served.pop(peer.endpoint, None)
        self.peers.clear()

    def serve(self) -> None:
        """Serves another card, or none, where a hostile engine is looked for."""
        peer, engine = self._peer(), self.choices.pick(self.world.engines)
        incarnation = self.choices.pick((peer.incarnation, engine.incarnation, self.choices.u64()))
        address = self.choices.pick((peer.transport.address, engine.address, b"", b"x" * 2000))
        versions = self.choices.pick(([VERSION], [], [VERSION + 1]))
        if self.choices.below(4):
            self.world.served[peer.endpoint] = LeaseCard(versions, incarnation, address, [])
        else:
            self.world.served.pop(peer.endpoint, None)

    # -- hostile clients of an honest consumer -------------------------------------------------------------------

    def request(self) -> None:
        """Makes an honest consumer track a reference to any producer, at any side channel."""
        if len(self._requests) >= CLIENTS_AT_ONCE:
            self.give_up()
        at = self.choices.below(ENGINES)
        peer, engine = self._peer(), self.choices.below(ENGINES)
        honest = self.world.engines[engine].incarnation
        incarnation, endpoint = peer.incarnation, peer.endpoint
        if self.choices.below(2):
            incarnation = self.choices.pick((incarnation, honest, self.choices.u64()))
            endpoint = self.choices.pick((endpoint, self.world.endpoint(engine), ("nobody.example", 1)))
        token = self.choices.pick((self.choices.u64() or 1, *self._leaked()))
        self._names += 1
        siblings = bool(self.choices.below(2))
        holder = f"hostile-{self._names % 500}"
        self.world.strangers.add(holder)
        self._requests.append((at, holder))
        ref = LeaseRef(incarnation, token, 0, 1500, Fingerprint(1, 0))
        self.world.engines[at].track(holder, ref, endpoint, siblings)

    def give_up(self) -> None:
        if self._requests:
            at, holder = self._requests.pop(self.choices.below(len(self._requests)))
            self.world.engines[at].untrack(holder)

    # -- messages to honest engines ------------------------------------------------------------------------------

    def say_hello(self) -> None:
        peer, c = self._peer(), self.choices
        incarnation = c.pick((peer.incarnation, self.world.engines[0].incarnation, c.u64()))
        address = c.pick((peer.transport.address, b"", c.take(8), self.world.engines[1].address))
        version = c.pick((VERSION, VERSION, VERSION + 1))
        self._say(1, version, incarnation, self._draw_seq(), c.pick(("", "engine-0", "x" * 256)), address)

    def say_renew(self) -> None:
        c = self.choices
        claims, drops = self._tokens(), self._tokens()
        target = c.below(ENGINES)
        number = self._peer().session.get(self.world.engines[target].incarnation, 0)
        self._say_to(target, 3, self._draw_seq(), claims, drops, c.pick((number, number, c.u64())))

    def say_welcome(self) -> None:
        c, target = self.choices, self.choices.below(ENGINES)
        seq = self._peer().hello.get(self.world.engines[target].incarnation, 0)
        durations = [c.pick((1, 1, 250, 1500, 2**32, 2**64 - 1)) for _ in range(4)]
        self._say_to(target, 2, c.pick((VERSION, 9)), c.u64(), c.pick((seq, seq, c.u64())), *durations, c.u64())

    def say_ack(self) -> None:
        c, target = self.choices, self.choices.below(ENGINES)
        seqs = self._peer().renews.get(self.world.engines[target].incarnation) or [0]
        seq = c.pick((seqs[0], seqs[-1], c.pick(seqs), c.u64()))
        self._say_to(target, 4, seq, self._tokens(), bool(c.below(2)))

    def behave(self) -> None:
        """Answers as a producer should, but for durations and order, so that it is wrong only later in a session."""
        c, peer = self.choices, self._peer()
        if peer.endpoint not in self.world.served:
            self._serve_own(peer)
        peer.listen()
        for target, engine in enumerate(self.world.engines):
            if (hello := peer.hello.pop(engine.incarnation, None)) is not None:
                durations = [c.pick((1500, 1, 2**64 - 1)) for _ in range(4)]
                self._say_to(target, 2, VERSION, peer.incarnation, hello, *durations, 1)
            if seqs := peer.renews.get(engine.incarnation):
                self._say_to(target, 4, seqs.pop(0) if c.below(2) else seqs[-1], [], False)

    def say_gone(self) -> None:
        self._say(5, self._tokens())

    def say_probe(self) -> None:
        self._say(6)

    def say_bye(self) -> None:
        self._say(7, self.choices.pick((0, 1, self._draw_seq())))

    def say_anything(self) -> None:
        c = self.choices
        payload = c.take(c.below(64))
        if c.below(3):
            payload = PREFIX + payload
        if c.below(20) == 19:
            payload += b"x" * MAX_MESSAGE_BYTES
        self._send(c.below(ENGINES), payload)

    def flood(self) -> None:
        """Makes one kind of move many times."""
        move, at = self.choices.pick(TALK), self.choices
        for _ in range(16):
            move(self)
            if not at.left:
                return

    def wait(self) -> None:
        """Lets all take a few turns; the hostile ones listen only now and then."""
        self.world.run((1 + self.choices.below(8)) * 0.08)
        if self.choices.below(4):
            for peer in self.peers:
                peer.listen()

    # -- parts of the moves --------------------------------------------------------------------------------------

    def _peer(self) -> Hostile:
        return self.peers[self._current % len(self.peers)]

    def learn(self) -> None:
        """Learns the token of a lease that an honest engine holds."""
        self.world.leak(self.choices.below(16))

    def _leaked(self) -> list[int]:
        return sorted([*self.world.leaked, *self.world.shared])

    def _draw_seq(self) -> int:
        self._seq += 1
        return self.choices.pick((self._seq, self._seq, self._seq - 1, 0, self.choices.u64()))

    def _tokens(self) -> list[int]:
        c = self.choices
        known = [*self._leaked(), *self._peer().tokens]
        kind = c.below(8)
        if kind == 7:
            return [0] * 3000
        if kind == 6:
            return list(range(2**64 - 400, 2**64))
        return [c.pick(known) if known and c.below(2) else c.u64() for _ in range(kind)]

    def _say(self, *fields: Any) -> None:
        self._say_to(self.choices.below(ENGINES), *fields)

    def _say_to(self, target: int, *fields: Any) -> None:
        self._send(target, body(*fields))

    def _send(self, target: int, payload: bytes) -> None:
        peer, engine = self._peer(), self.world.engines[target]
        try:
            peer.transport.connect(engine.incarnation, engine.address)
            peer.transport.send(engine.incarnation, payload)
        except PeerGone as error:
            raise AssertionError("an honest engine is gone") from error
        self.sent += 1
        try:
            decode(payload)
        except BadMessage as error:
            at = target, error.kind
            self.malformed[at] = self.malformed.get(at, 0) + 1

    def all_malformed_was_counted(self) -> None:
        """Asserts that each malformed message was counted, by kind (R14)."""
        for i, engine in enumerate(self.world.engines):
            expected = {f"refused.{kind}": n for (at, kind), n in self.malformed.items() if at == i}
            counted = {name: n for name, n in engine.report().agent.items() if name.startswith("refused.") and n}
            assert counted == expected


TALK: tuple[Callable[[Hostiles], None], ...] = (
    Hostiles.say_hello,
    Hostiles.say_renew,
    Hostiles.say_welcome,
    Hostiles.say_ack,
    Hostiles.say_gone,
    Hostiles.say_probe,
    Hostiles.say_bye,
    Hostiles.say_anything,
)
MOVES: tuple[Callable[[Hostiles], None], ...] = (
    *TALK,
    Hostiles.take_turns,
    Hostiles.learn,
    Hostiles.appear,
    Hostiles.vanish,
    Hostiles.serve,
    Hostiles.request,
    Hostiles.request,
    Hostiles.behave,
    Hostiles.behave,
    Hostiles.behave,
    Hostiles.give_up,
    Hostiles.flood,
    Hostiles.wait,
    Hostiles.wait,
    Hostiles.wait,
)


def play(data: bytes) -> None:
    """Lets hostile engines and clients do what `data` says; then they vanish, and the honest ones wind down."""
    choices = Choices(data)
    world = Neighbourhood()
    hostiles = Hostiles(world, choices)
    hostiles.play()
    world.run(1.0)
    hostiles.all_malformed_was_counted()
    if len(data) % 2:
        hostiles.vanish_all()
    world.wind_down()
