"""The two engines of the churn: what their schedulers ask of their agents, and the processor time that this takes."""

import heapq
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvlease.agent.core import AgentCore
from kvlease.agent.loop import LeaseAgent
from kvlease.agent.transport import Transport
from kvlease.protocol import Cause, Endpoint, Fingerprint, LeaseCard, LeaseConfig, LeaseRef, resolve
from kvlease.protocol.effects import Lapse
from kvlease.protocol.messages import VERSION, milliseconds
from kvlease.testing.cards import MemoryCards

PRODUCER, CONSUMER = 0xA, 0xD
SIDE_CHANNEL: Endpoint = ("producer.example", 5600)
HOLD_S = (0.05, 0.2)
"""The shortest and the longest time for which a consumer wants a lease: a short queue, and a read."""
CONFIG: LeaseConfig = resolve({})
"""The default settings: a term of 30 s."""

Open = Callable[[int], Transport]


class LeasesStayed(Exception):
    """Leases did not end as they had to: something else was measured than what was meant."""


def producer_agent(open_transport: Open) -> LeaseAgent:
    return LeaseAgent(CONFIG, "producer", open_transport, MemoryCards({}), incarnation=PRODUCER)


def consumer_agent(open_transport: Open, producer_address: bytes) -> LeaseAgent:
    """An agent that has the producer's card without a side channel: one is fetched once a session, not once a lease."""
    return LeaseAgent(CONFIG, "consumer", open_transport, producer_cards(producer_address), incarnation=CONSUMER)


def producer_cards(producer_address: bytes) -> MemoryCards:
    return MemoryCards({SIDE_CHANNEL: LeaseCard([VERSION], PRODUCER, producer_address, [])})


@dataclass(slots=True)
class Calls:
    """Processor time of an engine's own calls to its agent."""

    leases: int = 0
    """Leases whose last call was made."""
    seconds: float = 0.0


class ChurnProducer:
    """The producer's engine: it grants leases, and gives the blocks of those that its agent says are over to others at
    once, so that they end.
    """

    def __init__(self, agent: AgentCore) -> None:
        self.calls = Calls()
        self.granted = 0
        self._agent = agent

    def step(self, count: int) -> list[int]:
        """Grant `count` leases; returns their tokens."""
        tokens = [secrets.randbits(64) | 1 for _ in range(count)]
        start = time.thread_time()
        for token in tokens:
            self._agent.grant(token)
        over = self._agent.take_news()
        for news in over:
            self._agent.cleared(news.token)
        self.calls.seconds += time.thread_time() - start
        self.calls.leases += len(over)
        self.granted += count
        if others := [news for news in over if type(news) is not Lapse or news.cause is not Cause.RELEASED]:
            raise LeasesStayed(f"{others[0]} of {len(others)}, all leases should have been released")
        return tokens


class ChurnConsumer:
    """The consumer's engine: it wants each request's lease from its arrival until it was held for a moment."""

    def __init__(self, agent: AgentCore, hold_s: tuple[float, float] = HOLD_S, seed: int = 0) -> None:
        self.calls = Calls()
        self._agent = agent
        self._hold_s = hold_s
        self._random = random.Random(seed)
        self._arrived = 0
        self._held: list[tuple[float, str]] = []

    @property
    def held(self) -> int:
        return len(self._held)

    def step(self, tokens: Sequence[int], now: float) -> None:
        """Take on requests with these leases at `now` (seconds), and end those whose time has come."""
        arrived = [(self._name(), _ref(token)) for token in tokens]
        through = self._through(now)
        start = time.thread_time()
        self._agent.progress()
        for holder, ref in arrived:
            self._agent.track(holder, ref, SIDE_CHANNEL)
        for holder in through:
            self._agent.untrack(holder)
        lost = self._agent.take_lost()
        self.calls.seconds += time.thread_time() - start
        self.calls.leases += len(through)
        for holder, _ in arrived:
            heapq.heappush(self._held, (now + self._random.uniform(*self._hold_s), holder))
        if lost:
            raise LeasesStayed(f"{len(lost)} leases were lost, none should have been")

    def _name(self) -> str:
        self._arrived += 1
        return f"cmpl-{self._arrived:08x}"

    def _through(self, now: float) -> list[str]:
        through = []
        while self._held and self._held[0][0] <= now:
            through.append(heapq.heappop(self._held)[1])
        return through


def _ref(token: int) -> LeaseRef:
    return LeaseRef(PRODUCER, token, 0, milliseconds(CONFIG.duration_s), Fingerprint(1, 0))
