"""An idle engine of vLLM, which waits for requests and makes no steps, and a way to wake it.

vLLM lets a connector keep its engine stepping (`has_pending_push_work`), but not wake it. An engine that never stops
for its leases takes a core; one that sleeps hears no stock consumer and tells no figures. So it is woken with what vLLM
itself uses for its shutdown: a request of the kind WAKEUP in its queue.
"""

import inspect
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kvlease.vllm.compat import EngineCoreProc, EngineCoreRequestType, EngineShutdownState
from kvlease.vllm.plugin import RPC


class IdleEngine:
    """The engine core in whose constructor this object is made, if it has one that can be woken."""

    def __init__(self) -> None:
        self._core = _under_construction()

    @property
    def can_wake(self) -> bool:
        """Tells whether there is an engine core that can be woken: none where the user's own thread makes its steps."""
        return self._core is not None

    @property
    def shuts_down(self) -> bool:
        """Tells whether the engine core has been told to end."""
        return self._core is not None and self._core.shutdown_state is not EngineShutdownState.RUNNING

    def answer_by(self, answer: "Callable[[bytes], Future[bytes]]") -> None:
        """Has the engine core answer the utility call `RPC` by this function, between two steps.

        vLLM's core looks the method up on itself by the name that its client sends, and waits for a future while it
        goes on stepping. So the API server reaches this engine's scheduler, and nothing of vLLM's classes is changed.
        """
        if self._core is not None:
            setattr(self._core, RPC, answer)

    def wake(self) -> None:
        """Makes the engine core ask whether there is anything to do. Any thread may call it."""
        if self._core is not None:
            self._core.input_queue.put_nowait((EngineCoreRequestType.WAKEUP, None))


def _under_construction() -> Any | None:
    """Returns the engine core whose constructor is being called; it makes the scheduler, which makes the connector."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(core := frame.f_locals.get("self"), EngineCoreProc):
            return core
        frame = frame.f_back
    return None
