"""A prefill and a decode engine of real parts on a network within the process, that write their events to files."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Source
from kvlease.engine.orders import LeaseOrders
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker
from kvlease.events.finding import find
from kvlease.events.journal import Journal
from kvlease.events.lines import Writer
from kvlease.events.reading import files_in
from kvlease.events.recorder import FactRecorder
from kvlease.events.settings import EventSettings
from kvlease.events.story import RequestStory, story_of
from kvlease.fence import FenceTable, FenceVerifier, RegisteredWords, Verdict
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseConfig, LeaseRef, WorkerFence, resolve
from kvlease.protocol.messages import VERSION
from kvlease.testing.cards import MemoryCards
from kvlease.testing.data_agent import FAKE_ERRORS, FakeDataAgent
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from kvlease.testing.pool import CountedPool

CONFIG = resolve({"kv_lease_duration": 30, "kv_lease_orphan_grace": 1})
P_SIDE: Endpoint = ("p.example", 5600)
UNIX = 1_790_000_000.0
PROMPT = Fingerprint(tokens=190, digest=7)
SLOTS, BLOCKS = 4, 24


class StageEngine:
    """An engine with both roles, whose steps the test makes."""

    def __init__(self, stage: "Stage", name: str, incarnation: int, ahead_s: float) -> None:
        """`ahead_s`: seconds by which its clock is ahead of others."""
        self.name = name
        self.incarnation = incarnation
        self.stage = stage
        folder = EventSettings(stage.folder / name, stage.sample)
        clock = lambda: UNIX + stage.now + ahead_s  # noqa: E731
        journals = [
            Journal(folder, Writer(name, 0, incarnation), clock),
            Journal(folder, Writer(name, 0, worker=0), clock),
        ]
        self.recorders = [FactRecorder([journal], clock=clock) for journal in journals]
        tell, tell_worker = (recorder.hear for recorder in self.recorders)
        self.agent = AgentCore(
            stage.config,
            name,
            lambda own: MemoryTransport(stage.network, own),
            MemoryCards(stage.cards),
            incarnation=incarnation,
            clock=lambda: stage.now,
            tell=tell,
        )
        data = FakeDataAgent(instant=True)
        self.table = FenceTable(RegisteredWords(data, SLOTS))
        self.card = LeaseCard([VERSION], incarnation, self.agent.address, [WorkerFence(0, 0, *self.table.address)])
        self.pool = CountedPool(BLOCKS)
        self.p = ProducerSide(
            stage.config,
            self.agent,
            self.pool,
            1,
            draw=itertools.count(101).__next__,
            clock=lambda: stage.now,
            tell=tell,
        )
        self.p.open(SLOTS, SharedFences([self.table]))
        self.d = ConsumerSide(self.agent, tell=tell)
        self.step = LeaseScheduler(self.agent, self.p, self.d)
        verifier = FenceVerifier(data, RegisteredWords(FakeDataAgent(), 4), errors=FAKE_ERRORS, settle_us=0.0)
        self.worker = LeaseWorker(self.table, verifier, self._fetch, tell_worker)
        self.beginning: list[str] = []
        self.failed: set[str] = set()

    def _fetch(self, endpoint: Endpoint) -> Future[LeaseCard]:
        future: Future[LeaseCard] = Future()
        future.set_result(self.stage.cards[endpoint])
        return future

    # -- as a prefill engine -------------------------------------------------------------------------------------

    def prefill(self, request_id: str, blocks: int = 12) -> LeaseRef | None:
        self.p.take_on(request_id, PROMPT)
        own = self.pool.take(blocks)
        self.p.prepare(request_id)
        self.p.fences.take_orders()
        ref = self.p.finish(request_id, own)
        self.pool.give_back(own)
        return ref

    def reuse(self) -> None:
        """Gives all free blocks to others."""
        self.p.hear_news()
        self.pool.give_back(self.pool.take(self.pool.free))

    # -- as a decode engine --------------------------------------------------------------------------------------

    def load(self) -> None:
        for request_id in self.beginning:
            if request_id not in self.failed:
                for _ in range(2):
                    source = Source("P", P_SIDE)
                    self.worker.admit(request_id, source, {(0, 0): "P"}, lambda: None, lambda: None)

    def fail(self, request_id: str) -> None:
        self.failed.add(request_id)

    def read(self, request_id: str) -> bool:
        """Reads what the request waits for. Tells whether it may be used."""
        self.beginning = [request_id]
        self.worker.step(
            self.step.begin_step([request_id]) or LeaseOrders(self.p.fences.take_orders(), {}, frozenset()), self
        )
        self.stage.run(0.2)
        if request_id not in self.failed:
            verdicts: dict[str, Verdict] = {}
            while request_id not in verdicts:
                verdicts, _ = self.worker.verify({request_id})
            if verdicts[request_id] is not Verdict.INTACT:
                self.failed.add(request_id)
        self.worker.end([request_id], [])
        self.step.hear([request_id], None, self.failed)
        return request_id not in self.failed


class Stage:
    """P and D, and a time of their own."""

    def __init__(
        self, folder: Path, config: LeaseConfig = CONFIG, *, d_ahead_s: float = 0.0, sample: float = 1.0
    ) -> None:
        self.folder = folder
        self.config = config
        self.sample = sample
        self.now = 100.0
        self.network = MemoryNetwork()
        self.cards: dict[Endpoint, LeaseCard] = {}
        self.p = StageEngine(self, "prefill-0", 0xA1, 0.0)
        self.d = StageEngine(self, "decode-1", 0xD1, d_ahead_s)
        self.cards[P_SIDE] = self.p.card
        self.live = [self.p, self.d]

    def run(self, seconds: float) -> None:
        """Lets time pass, in which every engine that lives makes steps."""
        end, tick_s = self.now + seconds, 0.02 if seconds < 2 else 0.1
        while self.now < end - 1e-9:
            self.now += tick_s
            for engine in self.live:
                engine.agent.progress()
                engine.agent.turn(self.now)
                engine.p.hear_news()
                engine.agent.step_ended()

    def stop(self, engine: StageEngine) -> None:
        """The engine stands still."""
        self.live.remove(engine)

    def kill(self, engine: StageEngine) -> None:
        self.flush()
        self.network.kill(engine.incarnation)
        self.live.remove(engine)

    def flush(self) -> None:
        for engine in (self.p, self.d):
            for recorder in engine.recorders:
                recorder.flush()

    def places(self, *engines: StageEngine) -> Sequence[Path]:
        self.flush()
        return [self.folder / engine.name for engine in engines or (self.p, self.d)]

    def story(self, given: str, *engines: StageEngine) -> RequestStory:
        """Returns the story that the files of these engines, or of all, tell of a request."""
        found = find(files_in(self.places(*engines)), given)
        assert found.lines, "there is no event of it"
        assert found.survey.skipped == 0
        return story_of(found.lines)
