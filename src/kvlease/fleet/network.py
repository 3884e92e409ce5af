"""The network among lease agents: who is where, how long a message takes, and how much is sent.

Nothing is lost on it; `kvlease.sim` has a network that loses, repeats and reorders.
"""

from typing import TYPE_CHECKING

from kvlease.protocol import Endpoint
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Message, Probe, Renew, Welcome, encode

if TYPE_CHECKING:
    from kvlease.fleet.agents import ConsumerAgent, ProducerAgent
    from kvlease.fleet.world import World

_KINDS = {kind: kind.__name__.lower() for kind in (Hello, Welcome, Renew, Ack, Gone, Probe, Bye)}


class Post:
    """Carries messages between agents, and knows who they are."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.agenda = world.agenda
        self._books = world.books
        self._phases = world.chance.of("agents")
        self._incarnations = world.chance.of("incarnations")
        self._agents: dict[int, ProducerAgent | ConsumerAgent] = {}
        self._serving: dict[int, ProducerAgent] = {}
        self._lives: dict[tuple[int, int], int] = {}

    def draw_incarnation(self) -> int:
        return self._incarnations.getrandbits(64)

    def join(self, agent: "ProducerAgent | ConsumerAgent") -> None:
        """From now on it can be reached."""
        self._agents[agent.incarnation] = agent

    def serve(self, agent: "ProducerAgent") -> None:
        """From now on its producer's side channel has its card."""
        self._serving[agent.producer.index] = agent
        self._lives[agent.producer.index, agent.producer.life] = agent.incarnation

    def incarnation(self, producer: int, life: int) -> int:
        """Of the agent of a producer in one of its lives."""
        return self._lives[producer, life]

    def draw_phase(self) -> float:
        """When an agent takes its turns, as a share of the time between two of them."""
        return self._phases.random()

    def send(self, sender: "ProducerAgent | ConsumerAgent", peer: int, message: Message) -> bool:
        """False when the transport says that the peer is gone."""
        now, fleet = self.agenda.now, self.world.fleet
        receiver = self._agents[peer]
        if receiver.died_at is not None and now >= receiver.died_at + fleet.death_seen_s:
            return False
        self._books.send(_KINDS[type(message)], len(encode(message)), 1, now)
        receiver.note(receiver.hear, (sender.incarnation, message), now + fleet.latency_s)
        return True

    def fetch(self, endpoint: Endpoint, asker: "ConsumerAgent") -> None:
        """Asks the side channel of a producer for its card."""
        now, fleet = self.agenda.now, self.world.fleet
        agent = self._serving[endpoint[1]]
        served_at = max(now, agent.stopped_until) + fleet.card_s
        if agent.died_at is not None or served_at > now + max(fleet.card_timeout_s, fleet.card_s):
            asker.note(asker.fetched, (endpoint, None), now + fleet.card_timeout_s)
        else:
            self._books.send("card", agent.card_bytes, 2, now)
            asker.note(asker.fetched, (endpoint, agent.card), served_at)
