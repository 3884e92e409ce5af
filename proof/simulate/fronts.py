"""The engines' fronts, as a router sees them: how a call arrives, is refused, breaks, and is not answered at all.

A process that died refuses connections, and resets those it had; a host that vanished does neither. An engine that is
stopped takes connections, since its kernel does, and says nothing.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from kvlease.routing.failures import EngineFailure
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.requests import Decode, Prefill

LATENCY_S = (0.0003, 0.003)
"""The bounds of the time that bytes take from a router to an engine, or back."""
CONNECT_S = 1.0
"""The time after which a connection to a host that vanished is given up."""


@dataclass(slots=True, eq=False)
class FrontCall:
    """One call of a router, until the router has heard its end, or has closed it."""

    engine: str
    work: Prefill | Decode
    fail: Callable[[EngineFailure], None]
    """Tells the router that the call has failed."""
    latency_s: float = 0.0
    at: SimEngine | None = None
    """The engine that has taken the connection."""
    answered: bool = False
    """The engine has sent its answer, which is under way."""
    began: bool = False
    """The router has its first token."""
    over: bool = False


class EngineFronts:
    """The way between a router and the engines. `ill_until` has the planned end of the latest refusals, by engine."""

    def __init__(self, context: Context, engines: Mapping[str, SimEngine]) -> None:
        self.busy: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.rejecting: Counter[str] = Counter()
        self.draining: Counter[str] = Counter()
        """The number of faults, by engine, for which it refuses what comes; `busy` (503), `errors` (500) and
        `rejecting` (400) likewise."""
        self.ill_until: dict[str, float] = {}
        self._context = context
        self._engines = engines
        self._open: dict[str, FrontCall] = {}
        """The calls that engines have and have not answered, by request id."""

    @property
    def _chance(self) -> random.Random:
        return self._context.chance.of("fronts")

    def is_dead(self, name: str) -> bool:
        """Tells whether nothing answers at this engine's port."""
        return not self._engines[name].alive

    def send(self, call: FrontCall) -> None:
        """Begin a call."""
        call.latency_s = self._chance.uniform(*LATENCY_S)
        self._context.agenda.after(call.latency_s, partial(self._connect, call))

    def _connect(self, call: FrontCall) -> None:
        if call.over:
            return
        engine = self._engines[call.engine]
        if not engine.alive:
            shows = self._context.network.ports[engine.incarnation].death_shows
            self._tell_later(call, EngineFailure.UNREACHABLE, call.latency_s if shows else CONNECT_S)
            return
        call.at = engine
        self._open[call.work.request_id] = call
        engine.later(0.0, partial(self._arrive, call, engine))

    def _arrive(self, call: FrontCall, engine: SimEngine) -> None:
        work = call.work
        if call.over or call.answered:
            return
        refusal = self._refusal(engine.name)
        if refusal is not None:
            if isinstance(work, Decode) and refusal is not EngineFailure.ERROR:
                engine.decode.turn_away(work)
            self._end(call, refusal)
            return
        if isinstance(work, Prefill):
            engine.add_prefill(work)
        else:
            engine.add_decode(work)
        if self.draining[engine.name]:
            self._abort_of_itself(call, engine)

    def _refusal(self, name: str) -> EngineFailure | None:
        if self.busy[name]:
            return EngineFailure.BUSY
        if self.errors[name]:
            return EngineFailure.ERROR
        return EngineFailure.REFUSED if self.rejecting[name] else None

    # -- what the engine does ------------------------------------------------------------------------------------

    def answer(self, engine: SimEngine, work: Prefill | Decode, tell: Callable[[], None], last: bool = True) -> None:
        """Bring what an engine has sent to the router, unless its call is over by then."""
        call = self._open.get(work.request_id)
        if call is None or call.at is not engine:
            return
        if last:
            call.answered = True
            del self._open[work.request_id]
        self._context.agenda.after(call.latency_s, partial(self._unless_over, call, tell))

    def drain(self, name: str) -> None:
        """Let an engine abort all that it has for routers."""
        for call in [call for call in self._open.values() if call.engine == name]:
            if call.at is not None:
                self._abort_of_itself(call, call.at)

    def aborted(self, engine: SimEngine, prefill: Prefill) -> None:
        """Answer a prefill that an engine has ended before it was done."""
        call = self._open.get(prefill.request_id)
        if call is not None and call.at is engine:
            self._end(call, EngineFailure.ABORTED)

    def _abort_of_itself(self, call: FrontCall, engine: SimEngine) -> None:
        self._abort(engine, call.work)
        if isinstance(call.work, Decode):
            # A prefill may be done before it is aborted: its offer goes out.
            self._end(call, EngineFailure.ABORTED)

    def engine_ended(self, engine: SimEngine) -> None:
        """Break the connections of a process that has ended, which shows."""
        for call in [call for call in self._open.values() if call.at is engine]:
            self._end(call, EngineFailure.CUT)

    # -- what the router does ------------------------------------------------------------------------------------

    def close(self, call: FrontCall) -> None:
        """Close a call's connection: the engine aborts its request."""
        call.over = True
        self.hang_up(call)
        self._open.pop(call.work.request_id, None)

    def hang_up(self, call: FrontCall) -> bool:
        """Close a call's connection on one side: the engine aborts its request, or its answer comes. Returns False
        where the engine has no connection yet."""
        engine = call.at
        if engine is None:
            return False
        if not call.answered:
            self._context.agenda.after(call.latency_s, partial(self._hear_abort, engine, call.work))
        return True

    def _hear_abort(self, engine: SimEngine, work: Prefill | Decode) -> None:
        engine.later(0.0, partial(self._abort, engine, work))

    @staticmethod
    def _abort(engine: SimEngine, work: Prefill | Decode) -> None:
        queue = engine.prefill if isinstance(work, Prefill) else engine.decode
        queue.abort(work.request_id)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(self, call: FrontCall, failure: EngineFailure) -> None:
        call.answered = True
        self._open.pop(call.work.request_id, None)
        self._tell_later(call, failure, call.latency_s)

    def _tell_later(self, call: FrontCall, failure: EngineFailure, after_s: float) -> None:
        self._context.agenda.after(after_s, partial(self._unless_over, call, partial(call.fail, failure)))

    @staticmethod
    def _unless_over(call: FrontCall, tell: Callable[[], None]) -> None:
        if not call.over:
            tell()
