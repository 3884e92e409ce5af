"""The consumer's engine: requests wait, are read, verified and used, or computed again where they cannot be read."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Admission, Rank, Source
from kvlease.engine.orders import NO_ORDERS, LeaseOrders
from kvlease.engine.worker import LeaseWorker
from kvlease.errors import BadReference
from kvlease.fence import FenceTable, FenceVerifier, RegisteredWords, Verdict
from kvlease.protocol import LeaseCard, LeaseRef
from kvlease.router.bodies import ON_REJECT
from proof.simulate.context import Context, Owner
from proof.simulate.dataplane import SIM_ERRORS, SimDataAgent
from proof.simulate.requests import Decode

LANDING_WORDS = 32
RECOMPUTE_S = 0.2


@dataclass(slots=True)
class ReadReport:
    """One worker's report to the scheduler at the end of a step."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class DecodeScheduler:
    """A consumer's queue and seats; it calls the part that leases have in it in vLLM's order."""

    def __init__(self, engine: Owner, context: Context, side: ConsumerSide) -> None:
        self.side = side
        self._engine = engine
        self._context = context
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

    def add(self, decode: Decode, paused: bool) -> None:
        if paused:
            # A paused scheduler of vLLM takes requests on between its steps, and makes no step for them.
            self._take_on(decode)
            return
        self.arrived.append(decode)
        self._engine.wake()

    def turn_away(self, decode: Decode) -> None:
        """Let go of a request that the engine's front has refused, as `LeasedRequests.arrive` does with the one that
        vLLM sends in its place: its lease is claimed and dropped, unless its router wants it left to another engine."""
        params = decode.params or {}
        if "kv_lease" not in params:
            return
        ref = LeaseRef.from_params(params["kv_lease"])
        if params.get(ON_REJECT) == "return":
            self.side.hand_back(decode.request_id, ref)
            return
        self.side.keep(decode.request_id, ref, (params["remote_host"], params["remote_port"]))
        self._context.observer.wanted(self._engine.name, decode, ref)
        self.waiting.append(decode)
        self.abort(decode.request_id)

    def abort(self, request_id: str) -> None:
        self._aborts.add(request_id)
        self._engine.wake()

    # -- a step --------------------------------------------------------------------------------------------------

    def schedule(self, paused: bool) -> dict[str, Decode]:
        """Give the step's requests their seats; returns those that begin to read."""
        while self.arrived:
            self._take_on(self.arrived.popleft())
        self._carry_out_aborts()
        now = self._context.agenda.now
        for decode in [d for d in self.running if d.streams and not d.began and d.begins_at <= now]:
            decode.began = True
            self._context.observer.began(self._engine.name, decode)
        for decode in [d for d in self.running if d.done_at <= now]:
            self.running.remove(decode)
            self._context.observer.answered(self._engine.name, decode)
        begun: dict[str, Decode] = {}
        while not paused and self.waiting and len(self.reading) + len(self.running) < self._context.plan.seats:
            decode = self.waiting.popleft()
            if self.side.has(decode.request_id):
                begun[decode.request_id] = self.reading[decode.request_id] = decode
            else:
                self._run(decode, "computed", RECOMPUTE_S)
        return begun

    def _take_on(self, decode: Decode) -> None:
        """Queue a request and take its lease on, as `LeasedRequests.arrive` does."""
        self.waiting.append(decode)
        params = decode.params
        if not params or not params.get("do_remote_prefill") or "kv_lease" not in params:
            return
        try:
            ref = LeaseRef.from_params(params["kv_lease"])
        except BadReference as e:
            self.side.refuse(decode.request_id, str(e))
        else:
            endpoint = params["remote_host"], params["remote_port"]
            self.side.take_on(decode.request_id, decode.prompt, ref, endpoint, decode.siblings)
        if self.side.has(decode.request_id):
            self._context.observer.wanted(self._engine.name, decode, self.side.ref(decode.request_id))

    def _carry_out_aborts(self) -> None:
        for decode in [d for d in self.waiting if d.request_id in self._aborts]:
            # `LeasedRequests.end_unread` does the same.
            self.waiting.remove(decode)
            self.side.release(decode.request_id)
            self._context.observer.let_go(self._engine.name, decode)
        for request_id in self._aborts & self.reading.keys():
            # The request keeps its blocks until the workers are through with it.
            self.reading[request_id].aborted = True
        self.running = [d for d in self.running if d.request_id not in self._aborts]
        self._aborts.clear()

    def count(self, reports: list[ReadReport]) -> list[Decode]:
        """Add up the workers' reports of a step; returns the requests that all of them are through with."""
        for report in reports:
            self._failed.update(report.failed)
            self._reports.update(report.finished)
        through = [request_id for request_id, workers in self._reports.items() if workers == len(reports)]
        for request_id in through:
            del self._reports[request_id]
        return [self.reading.pop(request_id) for request_id in through]

    def load(self, decode: Decode, contents: list[int | None]) -> None:
        """Go on with a request that all workers are through with: from `contents`, or by computing it again."""
        engine, holder = self._engine, decode.request_id
        failed = holder in self._failed
        self._failed.discard(holder)
        self._context.observer.let_go(engine.name, decode)
        if decode.aborted:
            self._context.tell(f"{engine.name} is through with {holder}, which was aborted")
        elif failed:
            self._run(decode, "recomputed", RECOMPUTE_S)
        else:
            assert decode.truth is not None, f"{holder} was read with nothing to read"
            self._context.safety.used(
                engine.incarnation, holder, decode.truth, _read_under(decode), _whose(decode, decode.truth, contents)
            )
            self._run(decode, "read")
        self._context.safety.forgotten(engine.incarnation, holder)

    def _run(self, decode: Decode, how: str, more_s: float = 0.0) -> None:
        self._context.tell(f"{self._engine.name} goes on with {decode.request_id}: {how}")
        self._context.counts[f"answers.{how}"] += 1
        decode.how = how
        decode.begins_at = self._context.agenda.now + more_s
        decode.done_at = self._context.agenda.now + decode.busy_s + more_s
        self.running.append(decode)


class DecodeWorker:
    """One rank of a consumer: it shakes hands, reads, and holds back what is not verified."""

    def __init__(self, engine: Owner, context: Context, rank: int) -> None:
        self.rank = rank
        self.contents: dict[str, list[int | None]] = {}
        """The tokens that were found in the blocks of all producer workers, by request."""
        self._engine = engine
        self._context = context
        self.data_agent = SimDataAgent(context.plane, engine.name)
        landing = RegisteredWords(self.data_agent, LANDING_WORDS)
        self.leases = LeaseWorker(
            FenceTable(RegisteredWords(self.data_agent, 1)),
            FenceVerifier(self.data_agent, landing, errors=SIM_ERRORS, settle_us=0.0, clock=engine.clock),
            engine.fetch_card,
        )
        self._shaken: dict[str, int] = {}
        """The incarnation whose memory is known, by engine id."""
        self._begun: dict[str, Decode] = {}
        self._ready: deque[str] = deque()
        self._left: Counter[str] = Counter()
        """The number of producer workers whose data has not arrived, by request under way."""
        self._arrived: dict[str, float] = {}
        """The time at which all data of a request had arrived, by request."""
        self._failures: set[str] = set()
        self._report = ReadReport()

    def parts(self, orders: LeaseOrders | None, begun: dict[str, Decode]) -> list[Any]:
        """The parts of this worker's step, in their order; each is called at a moment of its own."""
        host = _DecodeStep(self, dict(begun))
        if orders is None:
            return [host.load]
        mine = LeaseOrders(NO_ORDERS, orders.reads, orders.unreadable)
        return [partial(self.leases.do, part, mine, host) for part in self.leases.order]

    def load(self, begun: dict[str, Decode]) -> None:
        """Begin the step's reads, then those whose handshake is done, as vLLM's `start_load_kv` does."""
        self._begun |= begun
        for request_id in begun:
            self._read(request_id)
        for _ in range(len(self._ready)):
            self._read(self._ready.popleft())

    def fail(self, request_id: str) -> None:
        """Take note that a request's load has failed; it is reported at the end of the step."""
        self._failures.add(request_id)

    def finish(self) -> None:
        """Verify and end what has arrived, as `LeasedWorker._pop_done_transfers` does: most fences are read in the step
        in which the data came."""
        verdicts, held_back = self.leases.verify(self._arrived.keys() - self._failures)
        for request_id, verdict in verdicts.items():
            if (decode := self._begun.get(request_id)) is not None:
                self._context.observer.verified(self._engine.name, decode, verdict)
            if verdict is not Verdict.INTACT:
                self._failures.add(request_id)
        self._context.observer.holds_back(self._engine.name, {r: self._arrived[r] for r in held_back})
        done = (self._arrived.keys() - held_back) | self._failures
        for request_id in sorted(done):
            self._end(request_id)

    def take_report(self) -> ReadReport:
        report, self._report = self._report, ReadReport()
        self.leases.end(report.finished, ())
        return report

    def _end(self, request_id: str) -> None:
        self._report.finished.append(request_id)
        if request_id in self._failures:
            self._report.failed.append(request_id)
            self._context.counts["loads_failed"] += 1
        self._arrived.pop(request_id, None)
        self._failures.discard(request_id)
        self._begun.pop(request_id, None)
        self._left.pop(request_id, None)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, request_id: str) -> None:
        """Begin to read a request, without a fence where it has no lease, as `WorkerLeases.read` does."""
        decode = self._begun.get(request_id)
        if decode is None:
            return
        source = _source(decode)
        if source.engine_id not in self._shaken:
            self._shake_hands(request_id, source)
            return
        agents = {rank: f"{self._shaken[source.engine_id]:x}/{rank[1]}" for rank in self._source_ranks()}
        read = partial(self._start, request_id, source, decode, tuple(agents.values()))
        if self.leases.reads.ref(request_id) is None:
            read()
        elif (
            self.leases.admit(request_id, source, agents, read, partial(self._ready.append, request_id))
            is Admission.REFUSED
        ):
            if self.leases.fences.take_replaced(source.engine_id):
                self._forget_engine(source.engine_id)
            self._context.counts["verdicts.no_fence"] += 1
            self.fail(request_id)

    def _shake_hands(self, request_id: str, source: Source) -> None:
        """Ask whose memory is behind this engine id, as stock vLLM's handshake does; unanswered, the request fails."""

        def answer(card: LeaseCard | None) -> None:
            if not self.data_agent.alive:
                return
            if card is None:
                self.fail(request_id)
            else:
                self._shaken.setdefault(source.engine_id, card.incarnation)
                self._ready.append(request_id)

        self._context.cards.ask(self._engine.name, source.endpoint, answer)

    def _start(self, request_id: str, source: Source, decode: Decode, agents: tuple[str, ...]) -> None:
        assert decode.params is not None
        blocks = decode.params["remote_block_ids"]
        self._left[request_id] = len(agents)
        self.contents[request_id] = []
        for agent in agents:
            self._context.plane.read_blocks(
                self._engine.name, agent, blocks, lambda found: self._came(request_id, source, found)
            )

    def _came(self, request_id: str, source: Source, found: Sequence[int | None] | None) -> None:
        if not self.data_agent.alive or request_id not in self._begun:
            return
        decode = self._begun[request_id]
        if found is None:
            self._forget_engine(source.engine_id)
            self.fail(request_id)
            return
        self.contents[request_id] += found
        if decode.truth is not None:
            self._context.safety.read_ended(self._engine.incarnation, request_id, decode.truth)
        self._left[request_id] -= 1
        if self._left[request_id] == 0:
            self._arrived[request_id] = self._context.agenda.now

    def _forget_engine(self, engine_id: str) -> None:
        """Forget an engine whose reads failed, or that turned out to be another: vLLM shakes hands with it again."""
        self._shaken.pop(engine_id, None)
        self.leases.fences.drop(engine_id)

    def _source_ranks(self) -> list[Rank]:
        """The producer's workers whose heads this worker needs."""
        theirs, ours = self._context.plan.producer_workers, self._context.plan.consumer_workers
        if theirs >= ours:
            share = theirs // ours
            return [(0, self.rank * share + i) for i in range(share)]
        return [(0, self.rank * theirs // ours)]


@dataclass(frozen=True, slots=True)
class _DecodeStep:
    """The worker in one step (`kvlease.engine.ports.HostWorker`)."""

    worker: DecodeWorker
    begun: dict[str, Decode]

    def load(self) -> None:
        self.worker.load(self.begun)

    def fail(self, request_id: str) -> None:
        del self.begun[request_id]
        self.worker.fail(request_id)


def _read_under(decode: Decode) -> int:
    """The token of the reference that the request came with."""
    assert decode.params is not None
    return LeaseRef.from_params(decode.params["kv_lease"]).token


def _whose(decode: Decode, token: int, contents: list[int | None]) -> list[int | None]:
    """The token of its lease for each block with the content that was computed for it, else what was found.

    `contents` has all blocks of one producer worker after the other.
    """
    due = decode.labels
    return [token if found == due[i % len(due)] else found for i, found in enumerate(contents)]


def _source(decode: Decode) -> Source:
    params = decode.params
    assert params is not None
    return Source(params["remote_engine_id"], (params["remote_host"], params["remote_port"]))
