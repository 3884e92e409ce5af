"""Peers on a network in memory. The tests play their turns by hand, and check them after each one."""

from dataclasses import dataclass, field

from kvlease.protocol import Endpoint, LeaseCard, Peer, Timing, resolve
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lapse, Lose, Revive, Send
from kvlease.protocol.messages import VERSION, Message, decode, encode
from kvlease.protocol.said import Cleared, Progress, Said
from kvlease.testing.network import Fate, MemoryNetwork, MemoryTransport
from proof.promises.standing import Settled, believed, check_beliefs, granted, stated
from proof.promises.structure import check_lessee, check_lessor, lessee_is_empty, lessor_is_empty

CONFIG = resolve({"kv_lease_duration": 6, "kv_lease_extension": 2, "kv_lease_orphan_grace": 0.5})
TIMING = Timing(idle_s=5.0, session_idle_s=8.0)
"""The bounds, by which sessions without leases end sooner than in life, so that the tests wait less for that."""
TICK_S = 0.05


@dataclass
class Member:
    peer: Peer
    transport: MemoryTransport
    said: list[Said] = field(default_factory=list)
    """The words of its engine that it hears in its next turn."""
    cards: list[tuple[Endpoint, LeaseCard | None]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    lapsed: dict[int, None] = field(default_factory=dict)
    """The leases whose blocks its engine may give to others."""
    asleep_until: float = 0.0


class Peers:
    """The peers. `settled` knows which leases are over, and why."""

    def __init__(self, *incarnations: int) -> None:
        self.now = 1000.0
        self.settled = Settled()
        self._sent: list[tuple[int, int, bytes]] = []
        self._network = MemoryNetwork(self._note)
        self._served: dict[Endpoint, LeaseCard] = {}
        self._members = {own: self._join(own) for own in incarnations}

    def __getitem__(self, incarnation: int) -> Member:
        return self._members[incarnation]

    def _note(self, sender: int, receiver: int, payload: bytes) -> Fate:
        self._sent.append((sender, receiver, payload))
        return Fate.DELIVER

    def _join(self, own: int) -> Member:
        transport = MemoryTransport(self._network, own)
        self._served[self.endpoint(own)] = LeaseCard([VERSION], own, transport.address, [])
        return Member(Peer(CONFIG, f"engine-{own:x}", own, transport.address, self.now, TIMING), transport)

    def endpoint(self, incarnation: int) -> Endpoint:
        return f"{incarnation:x}.example", 5600

    def echo(self, kind: type[Message]) -> None:
        """Delivers all messages of this kind that were ever sent once more, the latest first."""
        for sender, receiver, payload in reversed(list(self._sent)):
            if isinstance(decode(payload), kind):
                self._network.carry(receiver, (sender, payload))

    def report_dead(self, incarnation: int, at: int) -> None:
        """Makes the transport of `at` say that the other peer is dead, which it is not."""
        self._carry_out(self[at], self[at].peer.lost(incarnation, self.now))

    def reuse(self, incarnation: int) -> None:
        """Makes an engine give the blocks of all its lapsed leases to others; its agent hears so in its next turn."""
        member = self[incarnation]
        member.said += map(Cleared, member.lapsed)
        for token in member.lapsed:
            self.settled.has_ended(token)
        member.lapsed.clear()

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / TICK_S)):
            self.now += TICK_S
            for member in self._members.values():
                if self.now >= member.asleep_until:
                    self._turn(member)
            self._look()

    def _turn(self, member: Member) -> None:
        said, member.said = member.said, []
        cards, member.cards = member.cards, []
        arrived = [(sender, decode(payload)) for sender, payload in member.transport.receive()]
        self._carry_out(member, member.peer.turn(self.now, said, arrived, cards, Progress(self.now, True)))

    def _carry_out(self, member: Member, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    member.transport.send(peer, encode(message))
                case Connect(peer, address):
                    member.transport.connect(peer, address)
                case Disconnect(peer):
                    member.transport.disconnect(peer)
                case Fetch(endpoint):
                    member.cards.append((endpoint, self._served[endpoint]))
                case Lapse(token, cause):
                    self.settled.lapsed(token, cause)
                    member.lapsed[token] = None
                case Revive(token):
                    member.lapsed.pop(token, None)
                case Lose(holder):
                    member.lost.append(holder)

    def _look(self) -> None:
        """Checks S3, S4, L2 and R12 of all peers that are awake."""
        seen = {own: member.peer.snapshot() for own, member in self._members.items()}
        lessors = [granted(lessor) for lessor, _, _ in seen.values()]
        for own, (lessor, lessee, _) in seen.items():
            check_lessor(lessor)
            check_lessee(lessee, TIMING)
            self.settled.look(own, stated(lessee))
            beliefs = believed(lessee, self.now) if self.now >= self[own].asleep_until else ()
            for held in lessors:
                self.settled.check(held)
                check_beliefs(beliefs, own, held, self.settled.causes, frozenset(self.settled.ended))

    def nothing_is_left(self) -> None:
        """Asserts that nothing is left once nobody has wanted anything for long (L3)."""
        self.run(CONFIG.duration_s + TIMING.idle_s + TIMING.session_idle_s)
        for own in self._members:
            self.reuse(own)
        self.run(TICK_S)
        for member in self._members.values():
            lessor_is_empty(member.peer.lessor.snapshot())
            lessee_is_empty(member.peer.lessee.snapshot())
            assert not member.peer.snapshot().links
            assert not member.transport.peers
