"""The model of a producer, which computes prompts one after the other, and holds their blocks until their leases end.

It prefills one prompt at a time in chunks, in the order of arrival, without a prefix cache. A prompt takes its blocks
when it begins. Steps matter only for notices and for blocks: they are heard and freed where a step ends.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from kvlease.fleet.context import FleetContext
from kvlease.fleet.engines.memory import FreeBlocks
from kvlease.fleet.engines.unread import FleetUnread
from kvlease.fleet.leasing import Leasing
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest, RequestStage
from kvlease.simulation.agenda import Happening


class PrefillObserver(Protocol):
    """The observer of the requests that were given to producers."""

    def prefilled(self, request: FleetRequest) -> None:
        """A request's KV cache waits under `request.lease`."""

    def producer_died(self, victims: Sequence[FleetRequest]) -> None:
        """A producer died while these requests were queued on it, or being computed."""


class Producer:
    """One prefill engine."""

    side: Literal["producer"] = "producer"

    def __init__(self, context: FleetContext, index: int, leasing: Leasing, observer: PrefillObserver) -> None:
        self.index = index
        self.alive = False
        self.life = EngineLife(self.side, index)
        self.load = 0
        """The tokens of the prompts that are queued or being computed."""
        self.stalled_until = 0.0
        self.leases: dict[int, FleetLease] = {}
        """The leases whose blocks are held, by token."""
        self.lapsed: dict[int, FleetLease] = {}
        """The leases whose blocks are free, and still their own."""
        self._fleet = context.fleet
        self._agenda = context.agenda
        self._books = context.books
        self._leasing = leasing
        self._observer = observer
        self.pool = self._empty_pool()
        self._unread = FleetUnread(self._fleet.unread_chances)
        self._queue: deque[FleetRequest] = deque()
        self._current: FleetRequest | None = None
        self._began_at = 0.0
        self._ends_at = 0.0
        self._blocked_since: float | None = None
        self._tokens_of_leases = context.chance.of(f"tokens of producer {index}")

    def _empty_pool(self) -> FreeBlocks[FleetLease]:
        return FreeBlocks(self._fleet.producer_blocks, self._fleet.reuse)

    def submit(self, request: FleetRequest) -> None:
        """Takes a request whose prompt is to be computed."""
        request.stage = RequestStage.PREFILL
        request.producer = self.index
        self.load += request.prompt
        self._queue.append(request)
        self._next()

    def forget(self, request: FleetRequest) -> None:
        """Forgets a request whose client has left, at once, or when its prompt is computed if that has begun."""
        if request is not self._current:
            self.load -= request.prompt

    def _next(self) -> None:
        if self._current is not None or not self.alive:
            return
        while self._queue and self._queue[0].gone:
            self._queue.popleft()
        if not self._queue:
            self._unblock()
            return
        fleet, now = self._fleet, self._agenda.now
        request = self._queue[0]
        blocks = fleet.blocks_of(request.prompt)
        if blocks > self.pool.free:
            if self._blocked_since is None:
                self._blocked_since = now
            return
        self._unblock()
        self._queue.popleft()
        self._take(blocks)
        self._current = request
        self._began_at = max(now, self.stalled_until)
        self._ends_at = self._began_at + fleet.prefill_fixed_s + request.prompt / fleet.prefill_tokens_per_s
        self._agenda.at(self._ends_at, self._computed, self.life)

    def _take(self, blocks: int) -> None:
        self._unread.take(blocks, self.pool)
        for lease in self.pool.take(blocks):
            lease.reused = True
            self._unread.drop(lease)
            if self.lapsed.pop(lease.token, None) is not None:
                self._books.reuse(lease, self._agenda.now)
                self._books.lose(lease)
                self._leasing.reused(lease)

    def _unblock(self) -> None:
        if self._blocked_since is not None:
            self._books.counts["blocked_ms"] += round((self._agenda.now - self._blocked_since) * 1000)
            self._blocked_since = None

    def _computed(self, life: EngineLife) -> None:
        request = self._current
        if life.over or request is None:
            return
        if self._ends_at > self._agenda.now:
            self._agenda.at(self._ends_at, self._computed, life)
            return
        self._current = None
        self.load -= request.prompt
        counts = self._books.counts
        counts["done"] += 1
        counts["tokens"] += request.prompt
        if request.computed:
            counts["repeated"] += 1
            counts["repeated_tokens"] += request.prompt
        request.computed = True
        blocks = self._fleet.blocks_of(request.prompt)
        if request.gone:
            self.pool.give_back(blocks, None, last=False)
            self._books.waste(1, request.prompt)
        else:
            self._grant(request, blocks)
        self._next()

    def _grant(self, request: FleetRequest, blocks: int) -> None:
        lease = FleetLease(self._tokens_of_leases.getrandbits(64) or 1, self.life, blocks, request.prompt)
        self.leases[lease.token] = lease
        request.lease = lease
        request.producer = None
        self._books.grant(lease, self._agenda.now)
        self._leasing.granted(lease)
        self._observer.prefilled(request)

    # -- steps -------------------------------------------------------------------------------------------------------

    def at_step(self, happen: Happening, subject: Any) -> None:
        """Calls `happen(subject)` when the next step ends; never if the engine dies before."""
        self._agenda.at(self._step_end(), self._at_step, (self.life, happen, subject))

    def _at_step(self, step: tuple[EngineLife, Happening, Any]) -> None:
        life, happen, subject = step
        if life.over:
            return
        if self.stalled_until > self._agenda.now:
            self._agenda.at(self.stalled_until, self._at_step, step)
        else:
            happen(subject)

    def _step_end(self) -> float:
        fleet, now = self._fleet, self._agenda.now
        if self.stalled_until > now:
            return self.stalled_until
        if self._current is None:
            return now + fleet.producer_idle_step_s
        step_s = fleet.prefill_chunk_tokens / fleet.prefill_tokens_per_s
        passed = int((now - self._began_at) / step_s)
        end = self._began_at + (passed + 1) * step_s
        # By rounding, the step that has just ended may seem to run still.
        return min(end if end > now else end + step_s, self._ends_at)

    # -- leases ------------------------------------------------------------------------------------------------------

    def free(self, lease: FleetLease, cause: str) -> None:
        """Ends a lease: its blocks go back to the pool. It is called at the end of a step."""
        del self.leases[lease.token]
        self._books.free(lease, cause, self._agenda.now)
        self._books.lose(lease)
        self.pool.give_back(lease.blocks, lease if lease.wanted else None, last=False)
        if self._current is None:
            self._next()

    def lapse(self, lease: FleetLease, cause: str, last: bool) -> None:
        """Gives the blocks of a lease back, which remain its own until they are reused; after all others if `last`."""
        del self.leases[lease.token]
        self.lapsed[lease.token] = lease
        self._books.lapse(lease, cause, self._agenda.now)
        self.pool.give_back(lease.blocks, lease, last)
        if last:
            self._unread.add(lease, self.pool.free)
        if self._current is None:
            self._next()

    def revive(self, lease: FleetLease) -> None:
        """Holds the blocks of a lapsed lease again."""
        del self.lapsed[lease.token]
        self._unread.drop(lease)
        self.leases[lease.token] = lease
        self._books.revive(lease, self._agenda.now)
        self.pool.take_again(lease)

    # -- faults ------------------------------------------------------------------------------------------------------

    def stall(self, until: float, process: bool) -> None:
        """Stops the engine: no step ends before `until`; `process`: none of its threads runs, either."""
        self._make_no_steps(until)
        self._leasing.stalled(self, until, process)

    def _make_no_steps(self, until: float) -> None:
        now = self._agenda.now
        begun = max(now, self.stalled_until)
        if until <= begun:
            return
        self._ends_at += until - begun
        self._began_at += until - begun
        self.stalled_until = until

    def crash(self) -> None:
        """Ends the engine's life, and all that it holds."""
        self.alive = False
        self.life.over = True
        self.life = EngineLife(self.side, self.index)
        self.stalled_until = 0.0
        victims = [request for request in self._queue if not request.gone]
        if self._current is not None and not self._current.gone:
            victims.insert(0, self._current)
        self._unblock()
        self._queue.clear()
        self._current = None
        self.load = 0
        for lease in self.leases.values():
            self._books.free(lease, "crashed", self._agenda.now)
            lease.reused = True
        for lease in self.lapsed.values():
            self._books.reuse(lease, self._agenda.now)
            lease.reused = True
        self.leases, self.lapsed = {}, {}
        self.pool = self._empty_pool()
        self._unread = FleetUnread(self._fleet.unread_chances)
        self._leasing.died(self)
        self._observer.producer_died(victims)

    def start(self) -> None:
        """Starts the engine: at the beginning, and again after a crash."""
        self.alive = True
        self._leasing.started(self)
