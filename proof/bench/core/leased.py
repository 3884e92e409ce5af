"""The agents of kvlease on a bench: real turns, over a transport that costs nothing, in time that passes when told."""

import itertools

from kvlease.agent.loop import POLL_S, LeaseAgent
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef, resolve
from kvlease.protocol.messages import VERSION, Ack, Hello, Message, Renew, Welcome, decode, encode, milliseconds, split
from kvlease.testing.cards import MemoryCards
from kvlease.testing.clock import ManualClock

CONFIG = resolve({})
"""The settings of an operator who sets nothing: a term of 30 s, as stock's."""
PRODUCER, CONSUMER = 0xA0A0A0A0A0A0A0A0, 0xD0D0D0D0D0D0D0D0
PLACE: Endpoint = ("127.0.0.1", 5600)
ADDRESS = bytes(450)
"""An address that is about as long as that of a NIXL agent."""
TURN_S = POLL_S
"""The time between two turns of an agent's thread."""


class ManualTransport:
    """A `Transport` whose messages are laid on it and taken off it by hand."""

    foreign = 0
    address = ADDRESS

    def __init__(self) -> None:
        self.inbox: list[tuple[int, bytes]] = []
        """The messages that arrive at the next turn, as (sender, payload)."""
        self.outbox: list[bytes] = []
        """The messages that were sent since the list was last emptied."""

    def connect(self, peer: int, address: bytes) -> None:
        del peer, address

    def send(self, peer: int, payload: bytes) -> None:
        del peer
        self.outbox.append(payload)

    def receive(self) -> list[tuple[int, bytes]]:
        arrived, self.inbox = self.inbox, []
        return arrived

    def disconnect(self, peer: int) -> None:
        del peer

    def close(self) -> None:
        pass

    def take(self) -> list[Message]:
        """Returns what was sent since the last call, decoded."""
        sent, self.outbox = self.outbox, []
        return [decode(payload) for payload in sent]


class HandledAgent:
    """One engine's agent, whose thread is never started, its desk and its clock."""

    def __init__(self, engine_id: str, incarnation: int, served: dict[Endpoint, LeaseCard]) -> None:
        self.desk, self.clock = ManualTransport(), ManualClock()
        self.core = LeaseAgent(
            CONFIG, engine_id, lambda _: self.desk, MemoryCards(served), incarnation=incarnation, clock=self.clock
        )

    def turn(self, passes_s: float = TURN_S) -> None:
        """Let time pass, and let the agent take its turn."""
        self.clock.now += passes_s
        self.core.turn(self.clock.now)


def lease_tokens(count: int) -> list[int]:
    """Returns tokens that are as long on the wire as random ones."""
    return list(range(1 << 63, (1 << 63) + count))


class LeasedProducer(HandledAgent):
    """An agent with leases that are granted, and claimed by one consumer."""

    def __init__(self, leases: int) -> None:
        super().__init__("prefill", PRODUCER, {})
        self._seq = itertools.count(1)
        tokens = lease_tokens(leases)
        for token in tokens:
            self.core.grant(token)
        (welcome,) = self.hear(Hello(VERSION, CONSUMER, next(self._seq), "decode", ADDRESS))
        assert isinstance(welcome, Welcome)
        self.welcome = welcome
        for claims in split(tokens):
            (ack,) = self.hear(Renew(next(self._seq), claims, [], welcome.session))
            assert isinstance(ack, Ack)
            assert not ack.unknown

    def hear(self, message: Message) -> list[Message]:
        """Let this message arrive in a turn; returns what is sent in it."""
        self.desk.inbox.append((CONSUMER, encode(message)))
        self.turn()
        return self.desk.take()

    def renewals(self, count: int) -> list[tuple[int, bytes]]:
        """The next renewals of the consumer, as they are while nothing changes; in the order of their arrival."""
        number = self.welcome.session
        return [(CONSUMER, encode(Renew(next(self._seq), [], [], number))) for _ in range(count)]


class LeasedConsumer(HandledAgent):
    """An agent that tracks leases at one producer, which has acknowledged them all."""

    def __init__(self, leases: int) -> None:
        card = LeaseCard([VERSION], PRODUCER, ADDRESS, [])
        super().__init__("decode", CONSUMER, {PLACE: card})
        term_ms = milliseconds(CONFIG.duration_s)
        for number, token in enumerate(lease_tokens(leases)):
            self.core.track(f"request {number}", LeaseRef(PRODUCER, token, number, term_ms, Fingerprint(1, 0)), PLACE)
        self._last_seq = 0
        self._open()
        self._claim(leases)

    def _open(self) -> None:
        (hello,) = self._next_sent()
        assert isinstance(hello, Hello)
        assert hello.seq == 1, "the producer's welcome names the first"
        self.desk.inbox.append((PRODUCER, encode(LeasedProducer(0).welcome)))

    def _claim(self, leases: int) -> None:
        for _ in split(lease_tokens(leases)):
            (renew,) = self._next_sent()
            assert isinstance(renew, Renew)
            self._last_seq = renew.seq
            self.desk.inbox.append((PRODUCER, encode(Ack(renew.seq, []))))
        self.turn()
        assert not self.desk.outbox

    def _next_sent(self) -> list[Message]:
        """Takes turns until something is sent."""
        while not self.desk.outbox:
            self.core.progress()
            self.turn()
        return self.desk.take()

    def acknowledgements(self, count: int) -> list[tuple[int, bytes]]:
        """The Acks of the next renewals, in order, each to be laid on the desk when its renewal has been sent."""
        first = self._last_seq + 1
        self._last_seq += count
        return [(PRODUCER, encode(Ack(seq, []))) for seq in range(first, first + count)]
