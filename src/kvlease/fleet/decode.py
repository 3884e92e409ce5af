"""A consumer: it reads what producers hold for it, one after the other, and decodes.

First come, first served: a request begins to read when there is a seat for it and room for its prompt and its whole
output. What it waits for its steps, to begin the read and to notice its end, is one step in all, on average. A prompt
that cannot be read is computed at once, and decoding stands still meanwhile.
"""

from collections import deque
from typing import TYPE_CHECKING

from kvlease.fleet.batch import Batch
from kvlease.fleet.leasing import Verdict
from kvlease.fleet.records import Lease, Request, Stage

if TYPE_CHECKING:
    from kvlease.fleet.world import World

Turn = tuple[Request, int]
"""A request, and its `turn` when something was planned for it."""


class Consumer:
    """One decode engine."""

    def __init__(self, world: "World", index: int) -> None:
        self.index = index
        self.alive = True
        self.life = 0
        self.load = 0
        """Tokens of all that is here, prompts and outputs."""
        self.stalled_since = 0.0
        self.stalled_until = 0.0
        self.here: dict[int, Request] = {}
        """By number: every request that the router has sent and that has not ended."""
        self._world = world
        self._fleet = world.fleet
        self._inbox: list[Request] = []
        """Of an engine that stands still: its scheduler does not know them yet."""
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
        """How long a step takes now."""
        return self._batch.step_s

    @property
    def stands_still(self) -> bool:
        return self.stalled_until > self._world.agenda.now

    # -- from the router ---------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """A request whose prefill waits under `request.lease`."""
        request.stage = Stage.QUEUED
        request.consumer = self
        self.here[request.number] = request
        self.load += request.prompt + request.output
        if self.stands_still:
            self._inbox.append(request)
        else:
            self._take_on(request)
            self._admit()

    def _take_on(self, request: Request) -> None:
        self._world.leasing.wanted(request, self)
        self._queue.append((request, request.turn))

    def abort(self, request: Request) -> None:
        """The client is gone. An engine that stands still hears of it afterwards."""
        if self.stands_still:
            self._world.agenda.at(self.stalled_until, self._abort, (request, request.turn))
        else:
            self._abort((request, request.turn))

    def _abort(self, turn: Turn) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if self.stands_still:
            self.abort(request)
        elif request.stage is Stage.QUEUED:
            self._let_go(request, read=False)
            self._remove(request)
        elif request.stage is Stage.RUNNING:
            self._batch.leave(self._world.agenda.now)
            self._leave_seat(request)
        # What is being read or computed cannot be stopped; when that is done, nobody is there.

    # -- reading -----------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        if self.stands_still:
            return
        while self._queue:
            request, turn = self._queue[0]
            if request.turn != turn or request.stage is not Stage.QUEUED:
                self._queue.popleft()
                continue
            blocks = self._fleet.blocks_of(request.prompt + request.output)
            if not self._seats or blocks > self._free:
                return
            self._queue.popleft()
            self._seats -= 1
            self._free -= blocks
            self._begin(request)

    def _begin(self, request: Request) -> None:
        world, fleet = self._world, self._fleet
        if world.leasing.lost(request, self):
            world.books.counts["reads_not_begun"] += 1
            self._not_loaded(request)
            return
        request.stage = Stage.READING
        begin = max(world.agenda.now, self._link_free_at)
        self._link_free_at = begin + request.prompt * fleet.kv_bytes_per_token / fleet.read_bytes_per_s
        world.agenda.at(self._link_free_at + 2 * fleet.latency_s + self.step_s, self._data_in, (request, request.turn))

    def _data_in(self, turn: Turn) -> None:
        """The last byte is here, whether or not the engine takes note."""
        request, lease = turn[0], turn[0].lease
        if request.turn != turn[1] or lease is None:
            return
        if not lease.crashed:
            self._judge(request, lease)
            if self._world.leasing.data_in(lease):
                self._world.books.settle(lease, not request.tainted, self._world.agenda.now)
        self._noticed((request, request.turn, lease.crashed))

    def _judge(self, request: Request, lease: Lease) -> None:
        request.late = lease.freed
        request.tainted = lease.producer.given_away(lease)
        counts = self._world.books.counts
        counts["late_reads"] += request.late
        counts["late_reads_wrong"] += request.tainted

    def _noticed(self, seen: tuple[Request, int, bool]) -> None:
        """The engine sees that a read is over; the last item says whether that has failed."""
        request, turn, failed = seen
        if request.turn != turn:
            return
        if self.stands_still:
            self._world.agenda.at(self.stalled_until, self._noticed, seen)
            return
        assert request.lease is not None
        verdict = Verdict.FAILED if failed else self._world.leasing.verdict(request.lease)
        if verdict is Verdict.ACCEPTED:
            self._let_go(request, read=not request.tainted)
            self._run(request)
            return
        counts = self._world.books.counts
        if verdict is Verdict.REFUSED:
            counts["late_reads"] += not request.late
            counts["late_reads_refused"] += 1
        else:
            counts["failed_reads"] += 1
        self._not_loaded(request)

    def _not_loaded(self, request: Request) -> None:
        self._let_go(request, read=False)
        request.late = request.tainted = False
        if request.gone or not self._fleet.recompute:
            if not request.gone:
                self._world.router.end(request, "failed")
            self._leave_seat(request)
            return
        request.stage = Stage.COMPUTED
        now = self._world.agenda.now
        counts = self._world.books.counts
        counts["recomputed"] += 1
        counts["recomputed_tokens"] += request.prompt
        done = self._batch.busy_until(now) + request.prompt / self._fleet.recompute_tokens_per_s
        self._batch.stand_still(done, now)
        self._world.agenda.at(done, self._computed, (request, request.turn))

    def _computed(self, turn: Turn) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if self.stands_still:
            self._world.agenda.at(self.stalled_until, self._computed, turn)
        else:
            self._run(request)

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _run(self, request: Request) -> None:
        if request.gone:
            self._leave_seat(request)
            return
        now = self._world.agenda.now
        request.stage = Stage.RUNNING
        request.first_token_at = self._batch.join((request, request.turn), request.output, now)
        self._world.books.begin_answer(now)
        self._arm()

    def _arm(self) -> None:
        """One event at a time is planned for the batch; one that comes too early plans the next."""
        finish = self._batch.next_finish()
        if finish is not None and finish < self._wake_at:
            self._wake_at = finish
            self._world.agenda.at(finish, self._wake, (self.life, finish))

    def _wake(self, planned: tuple[int, float]) -> None:
        if planned[0] != self.life or planned[1] != self._wake_at:
            return
        self._wake_at = float("inf")
        now = self._world.agenda.now
        for request, turn in self._batch.take_finished(now):
            if request.turn != turn or request.stage is not Stage.RUNNING:
                continue
            self._batch.leave(now)
            self._free_seat(request)
            self._world.router.end(request, "wrong" if request.tainted else "right")
            self._remove(request)
        self._arm()
        self._admit()

    # -- leases ------------------------------------------------------------------------------------------------------

    def _let_go(self, request: Request, read: bool) -> None:
        lease = request.lease
        if lease is None:
            return
        request.lease = None
        self._world.leasing.unwanted(request, lease, self)
        if not lease.crashed:
            self._world.books.settle(lease, read, self._world.agenda.now)

    def _leave_seat(self, request: Request) -> None:
        """It ends without having run to its end: others may begin."""
        self._free_seat(request)
        self._remove(request)
        self._world.agenda.at(self._world.agenda.now, self._admit_if, self.life)

    def _admit_if(self, life: int) -> None:
        if life == self.life:
            self._admit()

    def _free_seat(self, request: Request) -> None:
        self._seats += 1
        self._free += self._fleet.blocks_of(request.prompt + request.output)

    def _remove(self, request: Request) -> None:
        request.stage = Stage.ENDED
        request.consumer = None
        del self.here[request.number]
        self.load -= request.prompt + request.output

    # -- faults ------------------------------------------------------------------------------------------------------

    def stall(self, until: float) -> None:
        """No step ends before `until`."""
        now = self._world.agenda.now
        if not self.stands_still:
            self.stalled_since = now
        if until > self.stalled_until:
            self._batch.stand_still(self._batch.busy_until(now) + until - max(now, self.stalled_until), now)
            self.stalled_until = until
            self._world.agenda.at(until, self._resume, self.life)

    def _resume(self, life: int) -> None:
        if life != self.life or self.stands_still:
            return
        inbox, self._inbox = self._inbox, []
        for request in inbox:
            if request.stage is Stage.QUEUED:
                self._take_on(request)
        self._admit()
        self._arm()

    def crash(self) -> list[Request]:
        """It dies with all it holds. Returns the requests that were here, some of whose clients may be gone."""
        self.alive = False
        self.life += 1
        self.stalled_until = 0.0
        victims = list(self.here.values())
        self.here.clear()
        self._inbox.clear()
        self._queue.clear()
        self.load = 0
        self._reset()
        return victims

    def restart(self) -> None:
        """It serves again."""
        self.alive = True
