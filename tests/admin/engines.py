"""An engine without an engine around it: its agent, its scheduler's halves, and all its figures."""

from collections import Counter

from kvlease.admin.figures import EngineFigures
from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import Fingerprint, LeaseCard, LeaseRef, resolve
from kvlease.protocol.messages import VERSION
from kvlease.testing.cards import MemoryCards
from kvlease.testing.clock import ManualClock
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from kvlease.testing.pool import CountedPool

CONFIG = resolve({"kv_lease_duration": 6})
PLACE = ("p", 1)
PROMPT = Fingerprint(tokens=64, digest=7)
BLOCK_BYTES = 1000
TURN_S = 0.02


class FiguredEngine:
    """One engine of several on a network, whose time passes in `run`."""

    def __init__(self, network: MemoryNetwork, name: str, clock: ManualClock, cards: MemoryCards) -> None:
        self.clock = clock
        self.times = ObservedTimes()
        self.agent = AgentCore(
            CONFIG, name, lambda own: MemoryTransport(network, own), cards, clock=clock, tell=self.times.hear
        )
        self.pool = CountedPool(100)
        self.producer = ProducerSide(CONFIG, self.agent, self.pool, 1, clock=clock)
        self.producer.open(8, SharedFences([FenceTable(RegisteredWords(FakeDataAgent(), 8))]))
        self.consumer = ConsumerSide(self.agent)
        self.counts: Counter[str] = Counter()
        self.figures = EngineFigures(self.agent, self.producer, self.consumer, self.times, self.counts, BLOCK_BYTES)

    @property
    def card(self) -> LeaseCard:
        return LeaseCard([VERSION], self.agent.incarnation, self.agent.address, [])

    def prefill(self, name: str, blocks: int) -> LeaseRef:
        self.producer.take_on(name, PROMPT)
        own = self.pool.take(blocks)
        self.producer.prepare(name)
        ref = self.producer.finish(name, own)
        assert ref is not None
        self.pool.give_back(own)
        return ref


class Pair:
    """P and D, in one time."""

    def __init__(self) -> None:
        self.clock, network = ManualClock(), MemoryNetwork()
        served: dict[tuple[str, int], LeaseCard] = {}
        self.p, self.d = (FiguredEngine(network, name, self.clock, MemoryCards(served)) for name in ("p", "d"))
        served[PLACE] = self.p.card

    def run(self, duration_s: float, *, reads: bool = True) -> None:
        """Lets time pass. `reads`: D's engine makes steps."""
        for _ in range(round(duration_s / TURN_S)):
            self.clock.now += TURN_S
            for engine in (self.p, self.d):
                if reads or engine is self.p:
                    engine.agent.progress()
                    engine.producer.hear_news()
                    engine.agent.turn(self.clock.now)
