"""A producer with a real agent and a real listener, whose leases come and go while somebody asks it anything."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kvlease.admin.core import AdminCore
from kvlease.admin.exposition import page
from kvlease.admin.figures import EngineFigures
from kvlease.admin.health import EngineProfile
from kvlease.admin.listener import AdminListener
from kvlease.admin.settings import ListenSettings
from kvlease.agent.loop import LeaseAgent
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import Fingerprint, LeaseCard, resolve
from kvlease.protocol.messages import VERSION
from kvlease.testing.cards import MemoryCards
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from kvlease.testing.pool import CountedPool

CONFIG = resolve({"kv_lease_duration": 2})
PLACE = ("prefill", 5600)
PROMPT = Fingerprint(tokens=64, digest=7)
BLOCKS, SLOTS, BLOCK_BYTES = 200, 64, 1000
STEP_S = 0.02
CLAIMED, READ = 0.5, 0.3
"""The chance of a lease to be claimed, and of a claimed one to be read in a step."""
HOST = "127.0.0.1"


class OperatedEngine:
    """A producer and a consumer on a network of their own; `step` is a step of both.

    Attributes: `listener`: the producer's. `producer`: its side of leases.
    """

    def __init__(self, port: int, token: str, seed: int) -> None:
        network, served = MemoryNetwork(), dict[tuple[str, int], LeaseCard]()
        self._chance = random.Random(seed)
        self._prefill, self._decode = (
            LeaseAgent(CONFIG, name, lambda own: MemoryTransport(network, own), MemoryCards(served))
            for name in ("prefill-0", "decode-0\x1b[31m")
        )
        served[PLACE] = LeaseCard([VERSION], self._prefill.incarnation, self._prefill.address, [])
        self._pool = CountedPool(BLOCKS)
        self.producer = ProducerSide(CONFIG, self._prefill, self._pool, 1)
        self.producer.open(SLOTS, SharedFences([FenceTable(RegisteredWords(FakeDataAgent(), SLOTS))]))
        self._consumer = ConsumerSide(self._decode)
        figures = EngineFigures(
            self._prefill, self.producer, ConsumerSide(self._prefill), ObservedTimes(), Counter(), BLOCK_BYTES
        )
        profile = EngineProfile(0, "prefill-0", CONFIG, BLOCK_BYTES, lambda: BLOCKS)
        core = AdminCore(self._prefill, self.producer, figures.unheard, profile)
        labels = {"model_name": "m", "engine": "0"}
        self.listener = AdminListener(core, ListenSettings(HOST, port, token), lambda: page(figures, labels))
        self._number = 0
        self._wanted: list[str] = []

    def start(self) -> None:
        """Starts both agents, and the listener."""
        self._prefill.start()
        self._decode.start()
        self.listener.start()

    def stop(self) -> None:
        """Ends all of them."""
        self._prefill.close()
        self._decode.close()
        self.listener.stop()

    def step(self) -> None:
        """A step: a prefill is computed, and some of the claimed leases are read."""
        self.producer.hear_news()
        self._number += 1
        name = f"request-{self._number}\u202e"
        self.producer.take_on(name, PROMPT)
        if self._pool.free >= 4:
            own = self._pool.take(self._chance.randint(1, 4))
            self.producer.prepare(name)
            ref = self.producer.finish(name, own)
            self._pool.give_back(own)
            if ref is not None and self._chance.random() < CLAIMED:
                self._consumer.take_on(name, PROMPT, ref, PLACE)
                self._wanted.append(name)
        self._consumer.begin(())
        for name in [name for name in self._wanted if self._chance.random() < READ]:
            self._consumer.release(name)
            self._wanted.remove(name)


@contextmanager
def operated(port: int, token: str, seed: int) -> Iterator[OperatedEngine]:
    """Runs such an engine. A drain that somebody begins is undone after a while, or nothing more would happen."""
    engine = OperatedEngine(port, token, seed)
    stop = threading.Event()

    def live() -> None:
        undone_at = time.monotonic()
        while not stop.wait(STEP_S):
            if time.monotonic() > undone_at:
                engine.producer.draining, undone_at = False, time.monotonic() + 1
            engine.step()

    engine.start()
    life = threading.Thread(target=live, name="life")
    life.start()
    try:
        yield engine
    finally:
        stop.set()
        life.join()
        engine.stop()
