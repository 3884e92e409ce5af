"""A producer: it computes prompts one after the other, and holds their blocks until their leases are over.

Chunked prefill of one prompt at a time, first come, first served; no prefix cache. A prompt takes its blocks when it
begins. Its steps matter only to others: notices are heard, and blocks freed, where a step ends.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

from kvlease.fleet.agenda import Happening
from kvlease.fleet.memory import open_pool
from kvlease.fleet.records import Lease, Request, Stage

if TYPE_CHECKING:
    from kvlease.fleet.world import World


class Producer:
    """One prefill engine."""

    def __init__(self, world: "World", index: int) -> None:
        self.index = index
        self.alive = True
        self.life = 0
        """Which of its lives this is; goes up with every crash."""
        self.load = 0
        """Tokens of prompts queued and being computed."""
        self.stalled_until = 0.0
        self.leases: dict[int, Lease] = {}
        """By token: granted and not free."""
        self.pool = open_pool(world.fleet.producer_blocks, world.fleet.reuse)
        self._world = world
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._began_at = 0.0
        self._ends_at = 0.0
        self._blocked_since: float | None = None
        self._tokens_of_leases = world.chance.of(f"tokens of producer {index}")

    def submit(self, request: Request) -> None:
        """A prompt to compute."""
        request.stage = Stage.PREFILL
        request.producer = self
        self.load += request.prompt
        self._queue.append(request)
        self._next()

    def forget(self, request: Request) -> None:
        """The client is gone. A prompt that is being computed is computed to its end, and then forgotten."""
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
        fleet, now = self._world.fleet, self._world.agenda.now
        request = self._queue[0]
        blocks = fleet.blocks_of(request.prompt)
        if blocks > self.pool.free:
            if self._blocked_since is None:
                self._blocked_since = now
            return
        self._unblock()
        self._queue.popleft()
        self.pool.take(blocks)
        self._current = request
        self._began_at = max(now, self.stalled_until)
        self._ends_at = self._began_at + fleet.prefill_fixed_s + request.prompt / fleet.prefill_tokens_per_s
        self._world.agenda.at(self._ends_at, self._computed, self.life)

    def _unblock(self) -> None:
        if self._blocked_since is not None:
            self._world.books.counts["blocked_ms"] += round((self._world.agenda.now - self._blocked_since) * 1000)
            self._blocked_since = None

    def _computed(self, life: int) -> None:
        world, request = self._world, self._current
        if life != self.life or request is None:
            return
        if self._ends_at > world.agenda.now:
            world.agenda.at(self._ends_at, self._computed, life)
            return
        self._current = None
        self.load -= request.prompt
        counts = world.books.counts
        counts["done"] += 1
        counts["tokens"] += request.prompt
        if request.computed:
            counts["repeated"] += 1
            counts["repeated_tokens"] += request.prompt
        request.computed = True
        blocks = world.fleet.blocks_of(request.prompt)
        if request.gone:
            self.pool.give_back(blocks, watched=False)
            world.books.waste(1, request.prompt)
        else:
            self._grant(request, blocks)
        self._next()

    def _grant(self, request: Request, blocks: int) -> None:
        world = self._world
        lease = Lease(self._tokens_of_leases.getrandbits(64) or 1, self, blocks, request.prompt)
        self.leases[lease.token] = lease
        request.lease = lease
        request.producer = None
        world.books.grant(lease, world.agenda.now)
        world.leasing.granted(lease)
        world.router.prefilled(request)

    # -- steps -------------------------------------------------------------------------------------------------------

    def at_step(self, happen: Happening, subject: Any) -> None:
        """Call `happen(subject)` when the next step ends; never if it dies before."""
        self._world.agenda.at(self._step_end(), self._at_step, (self.life, happen, subject))

    def _at_step(self, word: tuple[int, Happening, Any]) -> None:
        life, happen, subject = word
        if life != self.life:
            return
        if self.stalled_until > self._world.agenda.now:
            self._world.agenda.at(self.stalled_until, self._at_step, word)
        else:
            happen(subject)

    def _step_end(self) -> float:
        fleet, now = self._world.fleet, self._world.agenda.now
        if self.stalled_until > now:
            return self.stalled_until
        if self._current is None:
            return now + fleet.producer_idle_step_s
        step_s = fleet.prefill_chunk_tokens / fleet.prefill_tokens_per_s
        passed = int((now - self._began_at) / step_s)
        return min(self._began_at + (passed + 1) * step_s, self._ends_at)

    # -- leases ------------------------------------------------------------------------------------------------------

    def free(self, lease: Lease, cause: str) -> None:
        """The lease is over: its blocks go back to the pool, at the end of a step."""
        del self.leases[lease.token]
        self._world.books.free(lease, cause, self._world.agenda.now)
        if not lease.read:
            self._world.books.waste(1, lease.tokens)
        lease.freed = True
        lease.mark = self.pool.give_back(lease.blocks, watched=lease.wanted)
        if self._current is None:
            self._next()

    def given_away(self, lease: Lease) -> bool:
        """Whether any of its blocks is somebody else's by now. Of a lease of this life."""
        return lease.mark is not None and self.pool.reused(lease.mark)

    # -- faults ------------------------------------------------------------------------------------------------------

    def stall(self, until: float) -> None:
        """No step ends before `until`."""
        now = self._world.agenda.now
        begun = max(now, self.stalled_until)
        if until <= begun:
            return
        self._ends_at += until - begun
        self._began_at += until - begun
        self.stalled_until = until

    def crash(self) -> list[Request]:
        """It dies with all it holds. Returns the requests that were queued or being computed."""
        world = self._world
        self.alive = False
        self.life += 1
        self.stalled_until = 0.0
        victims = [request for request in self._queue if not request.gone]
        if self._current is not None and not self._current.gone:
            victims.insert(0, self._current)
        self._unblock()
        self._queue.clear()
        self._current = None
        self.load = 0
        for lease in self.leases.values():
            world.books.free(lease, "crashed", world.agenda.now)
            if not lease.read:
                world.books.waste(1, lease.tokens)
            lease.freed = True
        self.leases = {}
        self.pool = open_pool(world.fleet.producer_blocks, world.fleet.reuse)
        return victims

    def restart(self) -> None:
        """It serves again."""
        self.alive = True
