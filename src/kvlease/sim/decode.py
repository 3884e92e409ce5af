"""The consumer's engine: requests wait, are read, verified and used, or computed again where they cannot be read."""

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from kvlease.errors import CardUnavailable
from kvlease.fence import FenceVerifier, FenceWord, Verdict
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.fences import Admission, Rank, RemoteFences, Source
from kvlease.roles.reads import LeasedReads
from kvlease.sim.dataplane import SIM_ERRORS, SimDataAgent

if TYPE_CHECKING:
    from kvlease.sim.engine import SimEngine

LANDING_WORDS = 32
RECOMPUTE_S = 0.2


@dataclass(slots=True, eq=False)
class Decode:
    """A request to answer from a prefill. `request_id` and `kv_transfer_params` are as vLLM's."""

    request_id: str
    user: int
    prompt: Fingerprint
    kv_transfer_params: dict[str, Any] | None
    truth: int | None
    """The token of the lease on what was computed for it: a router may have given it another's reference."""
    busy_s: float
    aborted: bool = False
    done_at: float = 0.0
    how: str = ""
    """Where its answer comes from: read, recomputed (it could not be read), or computed (nothing was offered)."""


@dataclass(frozen=True, slots=True)
class ReadOrders:
    """To the workers: what to read from this step on, and what must not be read."""

    refs: dict[str, LeaseRef]
    begun: dict[str, Decode]
    hopeless: frozenset[str]


@dataclass(slots=True)
class ReadReport:
    """Of one worker, at the end of a step."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class DecodeScheduler:
    """Queue, seats and the scheduler's hooks, in vLLM's order of calls."""

    def __init__(self, engine: "SimEngine") -> None:
        self._engine = engine
        self._world = engine.world
        self.side = ConsumerSide(engine.agent, attrgetter("prompt"))
        self.arrived: deque[Decode] = deque()
        self.waiting: deque[Decode] = deque()
        self.reading: dict[str, Decode] = {}
        self.running: list[Decode] = []
        self._reports: Counter[str] = Counter()
        self._failed: set[str] = set()
        self._aborts: set[str] = set()

    @property
    def has_work(self) -> bool:
        return bool(self.arrived or self.waiting or self.reading or self.running)

    def add(self, decode: Decode) -> None:
        if self._engine.paused_at is not None:
            # vLLM's scheduler hears of it between its steps, and makes none.
            self._take_on(decode)
            return
        self.arrived.append(decode)
        self._engine.wake()

    def abort(self, request_id: str) -> None:
        self._aborts.add(request_id)
        self._engine.wake()

    # -- a step --------------------------------------------------------------------------------------------------

    def begin_step(self) -> ReadOrders:
        while self.arrived:
            self._take_on(self.arrived.popleft())
        self._carry_out_aborts()
        now = self._world.agenda.now
        for decode in [d for d in self.running if d.done_at <= now]:
            self.running.remove(decode)
            self._world.users.answered(self._engine, decode)
        begun = []
        paused = self._engine.paused_at is not None
        while not paused and self.waiting and len(self.reading) + len(self.running) < self._world.plan.seats:
            begun.append(self._schedule(self.waiting.popleft()))
        refs, hopeless = self.side.begin([d.request_id for d in begun if d.request_id in self.reading])
        self._world.promises.begins_to_read(self._engine, refs)
        return ReadOrders(refs, {d.request_id: d for d in begun}, hopeless)

    def _take_on(self, decode: Decode) -> None:
        if self.side.take_on(decode):
            self._world.facts.wanted(self._engine, decode)
        self.waiting.append(decode)

    def _schedule(self, decode: Decode) -> Decode:
        if self.side.has(decode.request_id):
            self.reading[decode.request_id] = decode
        else:
            self._compute(decode, "computed")
        return decode

    def _carry_out_aborts(self) -> None:
        for decode in [d for d in self.waiting if d.request_id in self._aborts]:
            # As `LeasedScheduler.request_finished`, for one that was never read.
            self.waiting.remove(decode)
            self._release(decode)
        for request_id in self._aborts & self.reading.keys():
            # Its blocks stay until the workers are through with it.
            self.reading[request_id].aborted = True
        self.running = [d for d in self.running if d.request_id not in self._aborts]
        self._aborts.clear()

    def _release(self, decode: Decode) -> None:
        self.side.release(decode.request_id)
        self._world.facts.let_go(self._engine, decode)

    def end_step(self, reports: list[ReadReport]) -> None:
        for report in reports:
            self._failed.update(report.failed)
            self._reports.update(report.finished)
        for request_id in [r for r, workers in self._reports.items() if workers == len(reports)]:
            del self._reports[request_id]
            self._loaded(self.reading.pop(request_id))

    def _loaded(self, decode: Decode) -> None:
        failed = decode.request_id in self._failed
        self._failed.discard(decode.request_id)
        self._release(decode)
        engine, holder = self._engine, decode.request_id
        if decode.aborted:
            self._world.tell(f"{engine.name} is through with {holder}, which was aborted")
        elif failed:
            self._compute(decode, "recomputed")
        else:
            contents = [c for reader in engine.decode_workers for c in reader.contents.get(holder, [])]
            assert decode.truth is not None, f"{holder} was read with nothing to read"
            self._world.safety.used(engine.incarnation, holder, decode.truth, _read_under(decode), contents)
            self._run(decode, "read")
        for reader in engine.decode_workers:
            reader.contents.pop(holder, None)
        self._world.safety.forgotten(engine.incarnation, holder)

    def _compute(self, decode: Decode, how: str) -> None:
        self._run(decode, how, RECOMPUTE_S)

    def _run(self, decode: Decode, how: str, more_s: float = 0.0) -> None:
        self._world.tell(f"{self._engine.name} goes on with {decode.request_id}: {how}")
        self._world.counts[f"answers.{how}"] += 1
        decode.how = how
        decode.done_at = self._world.agenda.now + decode.busy_s + more_s
        self.running.append(decode)


class DecodeWorker:
    """One rank of a consumer, as `LeasedWorker`: handshakes, reads, and holds back what is not verified."""

    def __init__(self, engine: "SimEngine", rank: int) -> None:
        self.rank = rank
        self.contents: dict[str, list[int | None]] = {}
        """Of the requests that are read: what came, of all blocks of all producer workers."""
        self._engine = engine
        self._world = engine.world
        self.data_agent = SimDataAgent(self._world.plane, engine.name)
        verifier = FenceVerifier(
            self.data_agent,
            LANDING_WORDS,
            errors=SIM_ERRORS,
            settle_us=0.0,
            clock=engine.clock,
        )
        self._reads = LeasedReads(verifier)
        self._fences = RemoteFences(self._fetch_card)
        self._shaken: dict[str, int] = {}
        """Engines by id to the incarnation whose memory is known."""
        self._begun: dict[str, Decode] = {}
        self._ready: deque[str] = deque()
        self._left: Counter[str] = Counter()
        """Of the requests under way: producer workers whose data is not in yet."""
        self._arrived: dict[str, float] = {}
        """Requests whose data is in, and since when."""
        self._failures: set[str] = set()
        self._report = ReadReport()

    def begin(self, orders: ReadOrders) -> None:
        """As `LeasedWorker.start_load_kv`."""
        self._reads.begin(orders.refs)
        for request_id in orders.hopeless:
            self._fail(request_id)
        for request_id in orders.refs:
            self._begun[request_id] = orders.begun[request_id]
            self._read(request_id)
        for _ in range(len(self._ready)):
            self._read(self._ready.popleft())

    def finish(self) -> None:
        """As `LeasedWorker._pop_done_transfers`: most fences are read in the step in which the data came."""
        arrived = self._arrived.keys() - self._failures
        for request_id, verdict in self._reads.verify(arrived).items():
            self._world.counts[f"verdicts.{verdict.name.lower()}"] += 1
            if verdict is not Verdict.INTACT:
                self._failures.add(request_id)
        held_back = self._reads.held_back(arrived)
        self._world.promises.holds_back(self._engine, {r: self._arrived[r] for r in held_back})
        done = (self._arrived.keys() - held_back) | self._failures
        for request_id in sorted(done):
            self._end(request_id)

    def take_report(self) -> ReadReport:
        report, self._report = self._report, ReadReport()
        return report

    def _end(self, request_id: str) -> None:
        self._report.finished.append(request_id)
        if request_id in self._failures:
            self._report.failed.append(request_id)
            self._world.counts["loads_failed"] += 1
        self._arrived.pop(request_id, None)
        self._failures.discard(request_id)
        self._begun.pop(request_id, None)
        self._left.pop(request_id, None)
        self._reads.forget(request_id)
        self._fences.forget(request_id)

    def _fail(self, request_id: str) -> None:
        self._failures.add(request_id)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, request_id: str) -> None:
        decode = self._begun.get(request_id)
        ref = self._reads.ref(request_id)
        if decode is None or ref is None:
            return
        source = _source(decode)
        if source.engine_id not in self._shaken:
            self._shake_hands(request_id, source)
            return
        come_back = lambda: self._ready.append(request_id)  # noqa: E731
        match self._fences.admit(request_id, source, ref, self._source_ranks(), come_back):
            case Admission.READ:
                self._reads.admit(request_id, self._words_of(source.engine_id, ref))
                self._start(request_id, source, decode)
                self._reads.prepare(request_id)
            case Admission.REFUSED:
                if self._fences.take_replaced(source.engine_id):
                    self._forget_engine(source.engine_id)
                self._world.counts["verdicts.no_fence"] += 1
                self._fail(request_id)
            case Admission.WAIT:
                pass

    def _shake_hands(self, request_id: str, source: Source) -> None:
        """Stock vLLM's handshake: whose memory is behind this engine id; one that fails fails the request."""

        def answer(card: LeaseCard | None) -> None:
            if not self.data_agent.alive:
                return
            if card is None:
                self._fail(request_id)
            else:
                self._shaken.setdefault(source.engine_id, card.incarnation)
                self._ready.append(request_id)

        self._world.cards.ask(self._engine.name, source.endpoint, answer)

    def _fetch_card(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        future: Future[LeaseCard] = Future()

        def answer(card: LeaseCard | None) -> None:
            if card is None:
                future.set_exception(CardUnavailable(f"nobody at {endpoint}"))
            else:
                future.set_result(card)

        self._world.cards.ask(self._engine.name, endpoint, answer)
        return future

    def _start(self, request_id: str, source: Source, decode: Decode) -> None:
        assert decode.kv_transfer_params is not None
        blocks = decode.kv_transfer_params["remote_block_ids"]
        ranks = self._source_ranks()
        self._left[request_id] = len(ranks)
        self.contents[request_id] = []
        for _, rank in ranks:
            agent = f"{self._shaken[source.engine_id]:x}/{rank}"
            self._world.plane.read_blocks(
                self._engine.name, agent, blocks, lambda found: self._came(request_id, source, found)
            )

    def _came(self, request_id: str, source: Source, found: Sequence[int | None] | None) -> None:
        if not self.data_agent.alive or request_id not in self._begun:
            return
        decode = self._begun[request_id]
        if found is None:
            self._forget_engine(source.engine_id)
            self._fail(request_id)
            return
        self.contents[request_id] += found
        if decode.truth is not None:
            self._world.safety.read_ended(self._engine.incarnation, request_id, decode.truth)
        self._left[request_id] -= 1
        if self._left[request_id] == 0:
            self._arrived[request_id] = self._world.agenda.now

    def _forget_engine(self, engine_id: str) -> None:
        """vLLM shakes hands again with an engine whose reads failed, or that turned out to be another."""
        self._shaken.pop(engine_id, None)
        self._fences.drop(engine_id)

    def _words_of(self, engine_id: str, ref: LeaseRef) -> list[FenceWord]:
        incarnation = self._shaken[engine_id]
        return [
            FenceWord(f"{incarnation:x}/{rank}", self._fences.table(engine_id, (pp, rank)).word(ref.slot), ref.token)
            for pp, rank in self._source_ranks()
        ]

    def _source_ranks(self) -> list[Rank]:
        """The producer's workers whose heads this worker needs."""
        theirs, ours = self._world.plan.producer_workers, self._world.plan.consumer_workers
        if theirs >= ours:
            share = theirs // ours
            return [(0, self.rank * share + i) for i in range(share)]
        return [(0, self.rank * theirs // ours)]


def _read_under(decode: Decode) -> int:
    """The token of the reference that came with it."""
    assert decode.kv_transfer_params is not None
    return LeaseRef.from_params(decode.kv_transfer_params["kv_lease"]).token


def _source(decode: Decode) -> Source:
    params = decode.kv_transfer_params
    assert params is not None
    return Source(params["remote_engine_id"], (params["remote_host"], params["remote_port"]))
