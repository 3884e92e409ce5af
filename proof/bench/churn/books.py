"""The churn without threads, network and passing time: what the protocol's own code takes.

Both agents take their turns by hand, in a time of their own, over the in-memory transport, messages encoded as ever.
"""

import time

from kvlease.agent.core import AgentCore
from kvlease.protocol.facts import Tell
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from proof.bench.churn.engines import (
    CONFIG,
    CONSUMER,
    PRODUCER,
    ChurnConsumer,
    ChurnProducer,
    LeasesStayed,
    producer_cards,
)

STEP_S = 0.01
"""The length of an engine's step; the agents take a turn after it and one in the middle of the next."""
BATCH = 50
"""The leases that are granted in a step: 5,000 a second."""
HOLD_S = (0.1, 0.1)
SETTLE_STEPS = 1000


class ChurnBooks:
    """Both engines and both agents, without threads."""

    def __init__(self, hold_s: tuple[float, float] = HOLD_S, tell: Tell | None = None) -> None:
        """`tell` hears the facts of both agents."""
        self.now = 1000.0
        self.agents_s = 0.0
        """Processor time of the agents' turns."""
        network = MemoryNetwork()

        def agent(engine_id: str, incarnation: int, cards: MemoryCards) -> AgentCore:
            return AgentCore(
                CONFIG,
                engine_id,
                lambda own: MemoryTransport(network, own),
                cards,
                incarnation=incarnation,
                clock=lambda: self.now,
                tell=tell,
            )

        self.producer_agent = agent("producer", PRODUCER, MemoryCards({}))
        self.consumer_agent = agent("consumer", CONSUMER, producer_cards(self.producer_agent.address))
        self.producer = ChurnProducer(self.producer_agent)
        self.consumer = ChurnConsumer(self.consumer_agent, hold_s)

    def step(self, count: int = 0) -> None:
        """Let the engines make a step: `count` leases are granted and tracked, and whatever is over is let go of."""
        self.consumer.step(self.producer.step(count), self.now)
        start = time.thread_time()
        for _ in range(2):
            self.turn()
        self.agents_s += time.thread_time() - start

    def turn(self) -> None:
        """Let each agent take a turn."""
        self.consumer_agent.turn(self.now)
        self.producer_agent.turn(self.now)
        self.now += STEP_S / 2

    def churn(self, leases: int) -> None:
        """Let so many leases come and go, at 5,000 a second."""
        for _ in range(leases // BATCH):
            self.step(BATCH)

    def settle(self) -> None:
        """Make steps until no lease is out. Raises `LeasesStayed` if some stay."""
        for _ in range(SETTLE_STEPS):
            self.step()
            if self.producer.calls.leases == self.producer.granted:
                # One more step lets the agent hear what the engine has said of the last ones.
                self.step()
                return
        raise LeasesStayed(f"{self.producer.granted - self.producer.calls.leases} leases did not end")

    @property
    def spent_s(self) -> float:
        """Processor time of the engines' calls and of the agents' turns."""
        return self.producer.calls.seconds + self.consumer.calls.seconds + self.agents_s


def warm_books(leases: int = 2000, tell: Tell | None = None) -> ChurnBooks:
    """Books through which leases have gone already: the session is open, and the interpreter's caches are warm."""
    books = ChurnBooks(tell=tell)
    books.churn(leases)
    books.settle()
    return books


class OurBooks:
    """The books of kvlease that are timed, beside `churn_stock.StockBooks`."""

    def __init__(self) -> None:
        self.books = warm_books()

    def spend(self, leases: int) -> float:
        """Returns the processor seconds that so many leases take."""
        before = self.books.spent_s
        self.books.churn(leases)
        self.books.settle()
        return self.books.spent_s - before
