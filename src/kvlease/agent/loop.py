"""The lease agent of an engine: the thread in the scheduler's process that runs the protocol."""

import logging
import threading
import time
from collections.abc import Callable

from kvlease.agent.cards import CardSource
from kvlease.agent.core import AgentCore
from kvlease.agent.transport import Transport
from kvlease.protocol import LeaseConfig

logger = logging.getLogger(__name__)

IDLE_POLL_S = 0.01
"""NIXL without a progress thread moves only when asked: this often it is asked while nothing happens."""
BUSY_POLL_S = 0.001
"""The same for a while after something happened: an answer is then on its way, or a connection being made."""
BUSY_FOR_S = 0.05
"""That while. A round trip takes a fraction of it."""
CLOSE_S = 2.0
"""How long the end of an engine waits for the thread to say Bye."""


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
    ) -> None:
        super().__init__(config, engine_id, open_transport, cards, incarnation=incarnation, clock=clock)
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kvlease-agent", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Say Bye to all peers and stop the thread; a no-op when it has ended already."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    def _leave_word(self, action: Callable[..., None], *arguments: object) -> None:
        super()._leave_word(action, *arguments)
        self._wake.set()

    def _run(self) -> None:
        try:
            busy_until = self._clock()
            while not self._closing:
                now = self._clock()
                if self.step(now):
                    busy_until = now + BUSY_FOR_S
                self._wake.wait(BUSY_POLL_S if now < busy_until else IDLE_POLL_S)
                self._wake.clear()
            self.say_bye()
        except Exception:
            # The one place for it: a bug in here must not take the engine down with it.
            self.died_at = self._clock()
            self._actions.clear()
            logger.exception(
                "kvlease: the lease agent died. This engine grants no leases from now on, takes back its outstanding "
                "ones after one term, and computes prompts itself; its fences stay right. Restart it when convenient."
            )
        finally:
            self._cards.close()
            self._transport.close()
