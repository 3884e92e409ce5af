"""The network between lease agents: their places, the delay of messages, and the count of what is sent.

Nothing is lost on it; `proof.simulate` has a network that loses, repeats and reorders.
"""

from typing import Protocol

from kvlease.fleet.context import FleetContext
from kvlease.fleet.records import EngineLife
from kvlease.protocol import Endpoint, LeaseCard
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Message, Probe, Renew, Welcome, encode


class Party(Protocol):
    """An agent as the network uses it."""

    @property
    def incarnation(self) -> int: ...

    @property
    def died_at(self) -> float | None: ...

    def arrive(self, at: float, sender: int, message: Message) -> None:
        """Takes a message that arrives at a time from this incarnation."""


class Server(Party, Protocol):
    """An agent of a producer."""

    @property
    def stopped_until(self) -> float: ...


class Asker(Party, Protocol):
    """An agent of a consumer, which asks for cards."""

    def answer(self, at: float, endpoint: Endpoint, card: LeaseCard | None) -> None:
        """Takes the answer of a side channel, which comes at a time; None where nobody answers."""


_KINDS = {kind: kind.__name__.lower() for kind in (Hello, Welcome, Renew, Ack, Gone, Probe, Bye)}


class Post:
    """Carries messages between agents, and knows who they are."""

    def __init__(self, context: FleetContext) -> None:
        self.fleet = context.fleet
        self.agenda = context.agenda
        self._books = context.books
        self._latency_s = context.fleet.latency_s
        self._phases = context.chance.of("agents")
        self._incarnations = context.chance.of("incarnations")
        self._parties: dict[int, Party] = {}
        """The agents by incarnation, the dead ones included."""
        self._servers: dict[int, tuple[Server, LeaseCard, int]] = {}
        """The side channel of each producer: its agent, the card that is there, and the card's size."""
        self._lives: dict[EngineLife, int] = {}

    def draw_incarnation(self) -> int:
        return self._incarnations.getrandbits(64)

    def join(self, party: Party) -> None:
        """Makes an agent reachable from now on."""
        self._parties[party.incarnation] = party

    def serve(self, server: Server, life: EngineLife, card: LeaseCard) -> None:
        """Puts the agent's card onto the side channel of its producer from now on."""
        self._servers[life.index] = server, card, len(card.encode())
        self._lives[life] = server.incarnation

    def incarnation(self, life: EngineLife) -> int:
        """Returns the incarnation of a producer's agent in one of its lives."""
        return self._lives[life]

    def draw_phase(self) -> float:
        """Returns the random offset of an agent's turns, as a share of the time between two of them."""
        return self._phases.random()

    def send(self, sender: Party, peer: int, message: Message) -> bool:
        """Sends a message. Returns False when the transport says that the peer is gone."""
        now, receiver = self.agenda.now, self._parties[peer]
        if receiver.died_at is not None and now >= receiver.died_at + self.fleet.death_seen_s:
            return False
        self._books.send(_KINDS[type(message)], len(encode(message)), 1, now)
        receiver.arrive(now + self._latency_s, sender.incarnation, message)
        return True

    def fetch(self, endpoint: Endpoint, asker: Asker) -> None:
        """Asks the side channel of a producer for its card."""
        now, fleet = self.agenda.now, self.fleet
        server, card, card_bytes = self._servers[endpoint[1]]
        served_at = max(now, server.stopped_until) + fleet.card_s
        if server.died_at is not None or served_at > now + max(fleet.card_timeout_s, fleet.card_s):
            asker.answer(now + fleet.card_timeout_s, endpoint, None)
        else:
            self._books.send("card", card_bytes, 2, now)
            asker.answer(served_at, endpoint, card)
