"""Turns: requests wait for theirs while too many run. The asyncio side of `admission`."""

import asyncio
from collections.abc import Callable

from kvlease.router.admission import AdmissionLimits, AdmissionQueue, Entry


class NoTurn(Exception):
    """A request that gets no turn.

    Attributes:
        reason: `queue_full` or `queue_time`.
        retry_after_s: when to ask again.
    """

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class RequestTurns:
    """The turns of all requests. A request is named by any object of its own."""

    def __init__(self, limits: AdmissionLimits, now: Callable[[], float]) -> None:
        self._queue: AdmissionQueue[object] = AdmissionQueue(limits)
        self._waiting: dict[object, asyncio.Future[bool]] = {}
        self._now = now
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """The number of requests that have a turn."""
        return self._queue.in_flight

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return self._queue.waiting

    async def take(self, name: object) -> None:
        """Waits for a turn, which `leave` ends. Raises `NoTurn`."""
        entry = self._queue.arrive(self._now(), name)
        if entry is Entry.ADMITTED:
            return
        if entry is Entry.FULL:
            raise NoTurn("queue_full", self._queue.retry_after_s())
        turn = self._waiting[name] = asyncio.get_running_loop().create_future()
        self._set_timer()
        try:
            has_turn = await turn
        finally:
            self._waiting.pop(name, None)
        if not has_turn:
            raise NoTurn("queue_time", self._queue.retry_after_s())

    def leave(self, name: object) -> None:
        """Ends a turn, or the wait for one."""
        for admitted in self._queue.left(self._now(), name):
            self._tell(admitted, True)

    def _tell(self, name: object, has_turn: bool) -> None:
        turn = self._waiting.get(name)
        if turn is not None and not turn.done():
            turn.set_result(has_turn)

    def _set_timer(self) -> None:
        due = self._queue.next_due()
        if self._timer is None and due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._now()), self._look)

    def _look(self) -> None:
        self._timer = None
        for name in self._queue.overdue(self._now()):
            self._tell(name, False)
        self._set_timer()
