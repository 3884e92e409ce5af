"""The lease agent of an engine: the thread in the scheduler's process that runs the protocol."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from kvlease.agent.cards import CardSource
from kvlease.agent.core import AgentCore
from kvlease.agent.transport import Transport
from kvlease.protocol import Endpoint, LeaseConfig, LeaseRef, Peer
from kvlease.protocol.facts import Tell

logger = logging.getLogger(__name__)

T = TypeVar("T")

POLL_S = 0.01
"""The pause between two turns. Some transports make progress only when polled; deadlines are coarser."""
CONNECTING_POLL_S = 0.001
"""The same pause after a connection was begun: its first messages take many turns on both sides."""
READING_POLL_S = 0.002
"""The same pause after a claim, on both sides: what is read is soon let go of, and its blocks are not to wait."""
CLOSE_S = 2.0
"""The longest time that an engine's shutdown waits for the thread to say Bye."""


class LeaseAgent(AgentCore):
    """`AgentCore` with a thread of its own that takes the turns. Its public methods may be called from one thread."""

    def __init__(
        self,
        config: LeaseConfig,
        engine_id: str,
        open_transport: Callable[[int], Transport],
        cards: CardSource,
        *,
        incarnation: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        tell: Tell | None = None,
        late: Callable[[float], None] | None = None,
    ) -> None:
        """`late` hears, in the thread, how many seconds after its pause a turn came; of those for which it was called
        before that it hears nothing."""
        super().__init__(config, engine_id, open_transport, cards, incarnation=incarnation, clock=clock, tell=tell)
        self._closing = False
        self._late = late
        self._called = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvlease-agent", daemon=True)

    @property
    def thread_id(self) -> int | None:
        """The `threading` identifier of the thread that takes the turns and costs processor time; None before its
        start."""
        return self._thread.ident

    @property
    def is_alive(self) -> bool:
        """Tells whether the thread is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Say Bye to all peers and stop the thread; a no-op when it has ended already."""
        self._closing = True
        self._called.set()
        if self.is_alive:
            self._thread.join(CLOSE_S)

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        # A turn is taken at once: a lease cannot be let go of before its claim was answered.
        super().track(holder, ref, endpoint, siblings)
        self._call()

    def untrack(self, holder: str) -> None:
        # A turn is taken at once: the producer's memory waits for it.
        super().untrack(holder)
        self._call()

    def ask(self, question: Callable[[Peer], T]) -> Future[T]:
        answer = super().ask(question)
        self._call()
        return answer

    def _call(self) -> None:
        # Calling costs ten times as much as looking whether the thread was called already.
        if not self._called.is_set():
            self._called.set()

    def pause_s(self) -> float:
        """Returns the seconds until the next turn, if nobody calls."""
        # The end of a pause costs some 25 us of processor time, more than most turns: so a turn takes all that has come
        # in the meantime, and there are more of them only where somebody waits.
        now = self._clock()
        if now < self._connecting_until:
            return CONNECTING_POLL_S
        return READING_POLL_S if now < self._reading_until else POLL_S

    def _pause(self) -> float:
        """Waits for the next turn; returns its time."""
        pause_s = self.pause_s()
        due = self._clock() + pause_s
        called = self._called.wait(pause_s)
        now = self._clock()
        if self._late is not None and not called:
            self._late(max(0.0, now - due))
        return now

    def _run(self) -> None:
        try:
            while not self._closing:
                now = self._pause()
                self._called.clear()
                self.turn(now)
            self.say_bye()
        except Exception:
            # The only broad catch: a bug in a turn must not end the engine.
            self.die()
            logger.exception(
                "kvlease: the lease agent died. This engine grants no leases from now on, takes back its outstanding "
                "ones after one term, and computes prompts itself; its fences stay right. Restart it when convenient."
            )
        finally:
            self._cards.close()
            self._transport.close()
