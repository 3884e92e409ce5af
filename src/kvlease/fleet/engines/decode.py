"""The model of a consumer, which reads the blocks that producers hold for it, one request at a time, and decodes.

It serves in the order of arrival: a request begins to read when there is a seat for it, and room for its prompt and its
whole output. Workers begin reads, and look which have ended, once they have launched a step on their device (vLLM 0.32:
`_get_kv_connector_output`), and the scheduler hears of it as that step ends. So a read waits half a step on average to
begin, as long to be seen to end, and then for one step. A prompt that cannot be read is computed at once, and decoding
stops meanwhile.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal, Protocol

from kvlease.fleet.context import FleetContext
from kvlease.fleet.engines.batch import Batch
from kvlease.fleet.leasing import Leasing, ReadVerdict
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest, RequestStage

Turn = tuple[FleetRequest, int]
"""A request, and the value of its `turn` when something was planned for it."""


class DecodeObserver(Protocol):
    """The observer of the requests that were given to consumers."""

    def end(self, request: FleetRequest, how: str) -> None:
        """The client has its answer, `right` or `wrong`, or an error: `failed`."""

    def consumer_died(self, victims: Sequence[FleetRequest]) -> None:
        """A consumer died with these requests on it; some of their clients may have left."""


class Consumer:
    """One decode engine."""

    side: Literal["consumer"] = "consumer"

    def __init__(self, context: FleetContext, index: int, leasing: Leasing, observer: DecodeObserver) -> None:
        self.index = index
        self.alive = False
        self.life = EngineLife(self.side, index)
        self.load = 0
        """The tokens of all requests here, prompts and outputs."""
        self.stalled_since = 0.0
        self.stalled_until = 0.0
        self.here: dict[int, FleetRequest] = {}
        """The requests that the router has sent and that have not ended, by number."""
        self._fleet = context.fleet
        self._agenda = context.agenda
        self._books = context.books
        self._leasing = leasing
        self._observer = observer
        self._inbox: list[FleetRequest] = []
        """The requests that came while the engine stands still, which its scheduler does not know yet."""
        self._queue: deque[Turn] = deque()
        self._reset()

    def _reset(self) -> None:
        self._free = self._fleet.consumer_blocks
        self._seats = self._fleet.consumer_seats
        self._link_free_at = 0.0
        self._wake_at = float("inf")
        self._batch: Batch[Turn] = Batch(self._fleet.step_fixed_s, self._fleet.step_per_request_s)

    @property
    def step_s(self) -> float:
        """The seconds that a step takes now."""
        return self._batch.step_s

    @property
    def unoccupied(self) -> tuple[int, int]:
        """The numbers of seats and of blocks that no request has."""
        return self._seats, self._free

    @property
    def stands_still(self) -> bool:
        return self.stalled_until > self._agenda.now

    # -- from the router ---------------------------------------------------------------------------------------------

    def submit(self, request: FleetRequest) -> None:
        """Takes a request whose prefill waits under `request.lease`."""
        request.stage = RequestStage.QUEUED
        request.consumer = self.index
        self.here[request.number] = request
        self.load += request.prompt + request.output
        if self.stands_still:
            self._inbox.append(request)
        else:
            self._take_on(request)
            self._admit()

    def _take_on(self, request: FleetRequest) -> None:
        assert request.lease is not None
        self._leasing.wanted(request, request.lease, self)
        self._queue.append((request, request.turn))

    def abort(self, request: FleetRequest) -> None:
        """Ends a request whose client has left. An engine that stands still hears of it afterwards."""
        if self.stands_still:
            self._agenda.at(self.stalled_until, self._abort, (request, request.turn))
        else:
            self._abort((request, request.turn))

    def _abort(self, turn: Turn) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if self.stands_still:
            self.abort(request)
        elif request.stage is RequestStage.QUEUED:
            self._let_go(request, read=False)
            self._remove(request)
        elif request.stage is RequestStage.RUNNING:
            self._batch.leave(self._agenda.now)
            self._leave_seat(request)
        # A read or a computation cannot be stopped; its result is dropped.

    # -- reading -----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        if self.stands_still:
            return
        while self._queue:
            request, turn = self._queue[0]
            if request.turn != turn or request.stage is not RequestStage.QUEUED:
                self._queue.popleft()
                continue
            blocks = self._fleet.blocks_of(request.prompt + request.output)
            if not self._seats or blocks > self._free:
                return
            self._queue.popleft()
            self._seats -= 1
            self._free -= blocks
            self._begin(request)

    def _begin(self, request: FleetRequest) -> None:
        fleet = self._fleet
        if self._leasing.lost(request, self):
            self._books.counts["reads_not_begun"] += 1
            self._not_loaded(request)
            return
        request.stage = RequestStage.READING
        begin = max(self._agenda.now, self._link_free_at)
        self._link_free_at = begin + request.prompt * fleet.kv_bytes_per_token / fleet.read_bytes_per_s
        arrives_at = self._link_free_at + 2 * fleet.latency_s + 0.5 * self.step_s
        self._agenda.at(arrives_at, self._data_in, (request, request.turn))

    def _data_in(self, turn: Turn) -> None:
        """The last byte is here; the engine does not know it yet."""
        request, lease = turn[0], turn[0].lease
        if request.turn != turn[1] or lease is None:
            return
        if not lease.crashed:
            self._judge(request, lease)
            if self._leasing.data_in(lease):
                self._books.settle(lease, not request.tainted, self._agenda.now)
        heard_at = self._agenda.now + 1.5 * self.step_s
        self._agenda.at(heard_at, self._heard, (request, request.turn, lease.crashed))

    def _judge(self, request: FleetRequest, lease: FleetLease) -> None:
        request.late = lease.freed
        request.tainted = lease.reused
        counts = self._books.counts
        counts["late_reads"] += request.late
        counts["late_reads_wrong"] += request.tainted

    def _heard(self, report: tuple[FleetRequest, int, bool]) -> None:
        """The scheduler hears that a read is over; the last item says whether that has failed."""
        request, turn, failed = report
        if request.turn != turn:
            return
        if self.stands_still:
            self._agenda.at(self.stalled_until, self._heard, report)
            return
        assert request.lease is not None
        verdict = ReadVerdict.FAILED if failed else self._leasing.verdict(request.lease)
        if verdict is ReadVerdict.ACCEPTED:
            self._let_go(request, read=not request.tainted)
            self._run(request)
            return
        counts = self._books.counts
        if verdict is ReadVerdict.REFUSED:
            counts["late_reads"] += not request.late
            counts["late_reads_refused"] += 1
        else:
            counts["failed_reads"] += 1
        self._not_loaded(request)

    def _not_loaded(self, request: FleetRequest) -> None:
        self._let_go(request, read=False)
        request.late = request.tainted = False
        if request.gone or not self._fleet.recompute:
            if not request.gone:
                self._observer.end(request, "failed")
            self._leave_seat(request)
            return
        request.stage = RequestStage.COMPUTED
        now = self._agenda.now
        counts = self._books.counts
        counts["recomputed"] += 1
        counts["recomputed_tokens"] += request.prompt
        done = self._batch.busy_until(now) + request.prompt / self._fleet.recompute_tokens_per_s
        self._batch.stand_still(done, now)
        self._agenda.at(done, self._computed, (request, request.turn))

    def _computed(self, turn: Turn) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if self.stands_still:
            self._agenda.at(self.stalled_until, self._computed, turn)
        else:
            self._run(request)

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _run(self, request: FleetRequest) -> None:
        if request.gone:
            self._leave_seat(request)
            return
        now = self._agenda.now
        request.stage = RequestStage.RUNNING
        request.first_token_at = self._batch.join((request, request.turn), request.output, now)
        self._books.begin_answer(now)
        self._arm()

    def _arm(self) -> None:
        """Plans the next event of the batch, one at a time; an event that comes too early plans another."""
        finish = self._batch.next_finish()
        if finish is not None and finish < self._wake_at:
            self._wake_at = finish
            self._agenda.at(finish, self._wake, (self.life, finish))

    def _wake(self, planned: tuple[EngineLife, float]) -> None:
        if planned[0].over or planned[1] != self._wake_at:
            return
        self._wake_at = float("inf")
        now = self._agenda.now
        for request, turn in self._batch.take_finished(now):
            if request.turn != turn or request.stage is not RequestStage.RUNNING:
                continue
            self._batch.leave(now)
            self._free_seat(request)
            self._observer.end(request, "wrong" if request.tainted else "right")
            self._remove(request)
        self._arm()
        self._admit()

    # -- leases ------------------------------------------------------------------------------------------------------

    def _let_go(self, request: FleetRequest, read: bool) -> None:
        lease = request.lease
        if lease is None:
            return
        request.lease = None
        self._leasing.unwanted(request, lease, self)
        if not lease.crashed:
            self._books.settle(lease, read, self._agenda.now)

    def _leave_seat(self, request: FleetRequest) -> None:
        """Frees the seat of a request that did not run to its end: others may begin."""
        self._free_seat(request)
        self._remove(request)
        self._agenda.at(self._agenda.now, self._admit_if, self.life)

    def _admit_if(self, life: EngineLife) -> None:
        if not life.over:
            self._admit()

    def _free_seat(self, request: FleetRequest) -> None:
        self._seats += 1
        self._free += self._fleet.blocks_of(request.prompt + request.output)

    def _remove(self, request: FleetRequest) -> None:
        request.stage = RequestStage.ENDED
        request.consumer = None
        del self.here[request.number]
        self.load -= request.prompt + request.output

    # -- faults ------------------------------------------------------------------------------------------------------

    def stall(self, until: float, process: bool) -> None:
        """Stops the engine: no step ends before `until`; `process`: none of its threads runs, either."""
        self._make_no_steps(until)
        self._leasing.stalled(self, until, process)

    def _make_no_steps(self, until: float) -> None:
        now = self._agenda.now
        if not self.stands_still:
            self.stalled_since = now
        if until > self.stalled_until:
            self._batch.stand_still(self._batch.busy_until(now) + until - max(now, self.stalled_until), now)
            self.stalled_until = until
            self._agenda.at(until, self._resume, self.life)

    def _resume(self, life: EngineLife) -> None:
        if life.over or self.stands_still:
            return
        inbox, self._inbox = self._inbox, []
        for request in inbox:
            if request.stage is RequestStage.QUEUED:
                self._take_on(request)
        self._admit()
        self._arm()

    def crash(self) -> None:
        """Ends the engine's life, and all that it holds."""
        self.alive = False
        self.life.over = True
        self.life = EngineLife(self.side, self.index)
        self.stalled_until = 0.0
        victims = list(self.here.values())
        self.here.clear()
        self._inbox.clear()
        self._queue.clear()
        self.load = 0
        self._reset()
        self._leasing.died(self)
        self._observer.consumer_died(victims)

    def start(self) -> None:
        """Starts the engine: at the beginning, and again after a crash."""
        self.alive = True
        self._leasing.started(self)
