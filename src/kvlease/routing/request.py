"""One request's way through the router: a state machine, driven by the table `REQUEST` (`states`). Sans-I/O.

Its driver reports what has happened, and carries out the actions that it gets. The order of a call's reports:

    AskPrefill → prefilled | failed
    AskDecode → began → finished | failed    a stream: `began` with the first chunk that has a token
    AskDecode → finished | failed            a whole answer: nothing reaches the client before

A call that was reported `failed` is over: the driver has closed its connection. A time limit is
`failed(now, EngineFailure.SILENT)`. It reports nothing more of a call that it was told to `Cancel`, and nothing of any
kind after the end but `client_gone`, which is harmless there.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from kvlease.errors import ImpossibleEvent
from kvlease.routing.actions import (
    Action,
    AskDecode,
    AskPrefill,
    BreakOff,
    Cancel,
    KvReference,
    PassOn,
    Refuse,
    ReleaseLease,
    said_of,
)
from kvlease.routing.engines import EngineRole
from kvlease.routing.facts import (
    BudgetEmpty,
    CallFailed,
    LeaseReleased,
    PromptRecomputed,
    ReferenceHandedOn,
    ReleaseReason,
    RequestOver,
    RequestRetried,
    RoutedOutcome,
    RouterFact,
    StreamContinued,
    WholePromptSent,
)
from kvlease.routing.failures import FAILURES, EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget, RetryPolicy
from kvlease.routing.states import RequestMove, RequestReport, RequestState, moves_after
from kvlease.routing.tries import NextCall, RequestTries

RELEASERS = 3
"""The most decode engines that are tried for one release."""
RETRY_AFTER_S = 1.0
"""The time after which a client is told to try again, where no engine has said one."""
_HAS_PART = (RequestState.STREAMING, RequestState.CONTINUING, RequestState.RESUMING)
"""The states in which the client has a part of the answer."""


class _Call(NamedTuple):
    """The call that is under way."""

    role: EngineRole
    engine: str
    trial: bool
    """It is the trial of the engine's breaker."""


class RoutedRequest:
    """One request of a client. Not thread-safe. Attribute `state`: for reading only.

    It has one call under way at most, and counts it in the fleet, whatever way it ends.
    """

    def __init__(
        self,
        fleet: EngineFleet,
        policy: RetryPolicy,
        budget: RetryBudget,
        chance: Random,
        *,
        keys: Sequence[bytes] = (),
        prefill: bool = True,
        continuable: bool = False,
        tell: Callable[[RouterFact], None] | None = None,
    ) -> None:
        """`keys`: of its prompt's beginning (`affinity.keys_of`). `prefill`: False for what carries no KV, or goes
        whole to a decode engine. `continuable`: another engine may go on with its stream (greedy, one answer, no tools,
        ...), if the policy allows it. `tell` hears facts."""
        self.state = RequestState.NEW
        self._fleet = fleet
        self._policy = policy
        self._budget = budget
        self._chance = chance
        self._keys = keys
        self._prefill = prefill
        self._continuable = continuable
        self._tell = tell or (lambda _: None)
        self._tries = self._new_tries()
        self._moves = moves_after(RequestState.NEW, RequestReport.START)
        self._call: _Call | None = None
        self._calls = 0
        self._retries = 0
        self._continuations = 0
        self._retry_after_s: float | None = None

    @property
    def ended(self) -> bool:
        """True after its end: the client has all that it will get."""
        return self.state is RequestState.ENDED

    @property
    def engine(self) -> str | None:
        """The engine at which a call is under way; None where there is none."""
        return self._call and self._call.engine

    # -- reports -----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> tuple[Action, ...]:
        """The request has been admitted."""
        self._hear(RequestReport.START)
        self._budget.begun(now)
        step = self._tries.first(now)
        return self._nobody(now) if step is None else self._take(now, step, 0.0)

    def prefilled(self, now: float, reference: KvReference | None) -> tuple[Action, ...]:
        """The prefill engine has answered, and offers what it has computed; None: it offers nothing, which is no
        failure (a prompt shorter than a block)."""
        self._hear(RequestReport.PREFILLED)
        self._end_call(now, None)
        self._tries.offered(reference)
        step = self._tries.after_prefill(now)
        return self._nobody(now) if step is None else self._take(now, step, 0.0)

    def failed(self, now: float, failure: EngineFailure, retry_after_s: float | None = None) -> tuple[Action, ...]:
        """The call that is under way has failed. `retry_after_s`: the engine's `Retry-After`."""
        self._hear(RequestReport.FAILED)
        call = self._end_call(now, failure)
        self._tell(CallFailed(call.role, failure, call.engine))
        if retry_after_s is not None:
            self._retry_after_s = max(retry_after_s, self._retry_after_s or 0.0)
        if self.state is RequestState.STREAMING:
            step = self._continuation(now, call, failure)
        else:
            self._tries.failed(call.role, call.engine, failure)
            step = self._tries.after_failure(now, call.role, failure)
        if step is None or not self._paid(now, failure):
            return self._give_up(now, call, failure)
        self._retries += 1
        self._tell(RequestRetried(call.role, failure))
        if self.state is RequestState.STREAMING:
            self._tell(StreamContinued(failure))
        if step.role is EngineRole.DECODE and step.recompute is None and self._tries.seen:
            self._tell(ReferenceHandedOn(failure))
        return self._take(now, step, self._delay_s(step.engine, retry_after_s))

    def began(self, now: float) -> tuple[Action, ...]:
        """The decode engine's first token is there; from now on the client has a part of the answer."""
        self._hear(RequestReport.BEGAN)
        self._go(RequestMove.STREAM)
        assert self._call is not None
        self._fleet.answered(now, self._call.engine)
        self._tries.answered()
        return ()

    def finished(self, now: float) -> tuple[Action, ...]:
        """The decode engine's answer is complete."""
        self._hear(RequestReport.FINISHED)
        self._end_call(now, None)
        self._tries.answered()
        self._end(RequestMove.FINISH, RoutedOutcome.FINISHED)
        return ()

    def client_gone(self, now: float) -> tuple[Action, ...]:
        """The client has closed its connection.

        What a decode engine was asked to read is released even so: it may not have come that far.
        """
        self._hear(RequestReport.CLIENT_GONE)
        if self.ended:
            return ()
        actions: list[Action] = []
        if self._call is not None:
            self._fleet.abandoned(self._call.engine, self._call.trial)
            actions.append(Cancel(self._call.engine))
            self._call = None
        actions += self._release(now, ReleaseReason.CLIENT_GONE)
        self._end(RequestMove.LEAVE, RoutedOutcome.CLIENT_GONE)
        return tuple(actions)

    # -- calls -------------------------------------------------------------------------------------------------------

    def _take(self, now: float, step: NextCall, delay_s: float) -> tuple[Action, ...]:
        actions: list[Action] = []
        if step.recompute is not None:
            self._tell(PromptRecomputed(step.recompute))
            actions += self._release(now, ReleaseReason.GIVEN_UP)
        if step.whole is not None:
            self._tell(WholePromptSent(step.whole))
        self._tries.take(step)
        self._calls += 1
        self._call = _Call(step.role, step.engine, self._fleet.begun(step.engine))
        continued = self.state in _HAS_PART
        if step.role is EngineRole.PREFILL:
            self._go(RequestMove.ASK_PREFILL)
            return (*actions, AskPrefill(step.engine, delay_s, continued))
        self._go(RequestMove.ASK_DECODE)
        return (*actions, AskDecode(step.engine, self._tries.reference, delay_s, continued))

    def _end_call(self, now: float, failure: EngineFailure | None) -> _Call:
        call, self._call = self._call, None
        assert call is not None
        self._fleet.ended(now, call.engine, failure, call.trial)
        return call

    def _continuation(self, now: float, call: _Call, failure: EngineFailure) -> NextCall | None:
        """Returns the first step by which a stream that was cut goes on; None where it does not."""
        if not self._policy.continue_streams or not self._continuable or not FAILURES[failure].retried:
            return None
        if self._continuations >= self._policy.continuations:
            return None
        self._continuations += 1
        self._retries = 0
        # A stream that had tokens is none that kills engines before their first: it has all its tries again.
        self._tries = self._new_tries()
        self._tries.failed(call.role, call.engine, failure)
        return self._tries.first(now)

    def _new_tries(self) -> RequestTries:
        return RequestTries(self._fleet, self._policy, self._chance, self._keys, self._prefill)

    def _paid(self, now: float, failure: EngineFailure) -> bool:
        if not FAILURES[failure].budget or self._budget.take(now):
            return True
        self._tell(BudgetEmpty(failure))
        return False

    def _delay_s(self, engine: str, retry_after_s: float | None) -> float:
        delay_s = self._policy.delay_s(self._retries, self._chance)
        if retry_after_s is None or not self._tries.was_tried(engine):
            return delay_s
        # There is no other engine than the one that asks for time.
        return max(delay_s, min(retry_after_s, self._policy.backoff_max_s))

    # -- ends --------------------------------------------------------------------------------------------------------

    def _give_up(self, now: float, call: _Call, failure: EngineFailure) -> tuple[Action, ...]:
        rule = FAILURES[failure]
        released = self._release(now, ReleaseReason.ENDED)
        if failure in (EngineFailure.REFUSED, EngineFailure.ERROR) and self.state not in _HAS_PART:
            self._end(RequestMove.PASS_ON, RoutedOutcome.PASSED_ON)
            return (PassOn(), *released)
        calls = "1 call" if self._calls == 1 else f"{self._calls} calls"
        message = f"given up after {calls} to engines: a {call.role} engine {said_of(failure)}"
        return (self._error(rule.status, rule.kind, message), *released)

    def _nobody(self, now: float) -> tuple[Action, ...]:
        if self._fleet.has(EngineRole.DECODE):
            message = "no engine can be asked: none is left to try"
        else:
            message = "no decode engine is known; start one, or see that the router finds it"
        released = self._release(now, ReleaseReason.ENDED)
        return (self._error(503, "no_engine", message), *released)

    def _error(self, status: int, kind: str, message: str) -> Action:
        if self.state in _HAS_PART:
            self._end(RequestMove.BREAK_OFF, RoutedOutcome.BROKEN_OFF, kind)
            return BreakOff(kind, message)
        self._end(RequestMove.REFUSE, RoutedOutcome.REFUSED, kind)
        retry_after_s = self._retry_after_s
        if retry_after_s is None and status in (502, 503):
            retry_after_s = RETRY_AFTER_S
        return Refuse(status, kind, message, retry_after_s)

    def _release(self, now: float, why: ReleaseReason) -> tuple[Action, ...]:
        reference = self._tries.reference
        if reference is None:
            return ()
        self._tell(LeaseReleased(why))
        living = self._fleet.living(now, EngineRole.DECODE)
        by = [engine for engine in living if not self._tries.is_useless(engine)]
        return (ReleaseLease(reference, tuple(by[:RELEASERS]), reference.producer),)

    def _end(self, move: RequestMove, outcome: RoutedOutcome, kind: str = "") -> None:
        self._go(move)
        self._tell(RequestOver(outcome, kind))

    # -- the table ---------------------------------------------------------------------------------------------------

    def _hear(self, report: RequestReport) -> None:
        """Raises `ImpossibleEvent` for a report that cannot come now, before anything is changed."""
        self._moves = moves_after(self.state, report)

    def _go(self, move: RequestMove) -> None:
        try:
            self.state = self._moves[move]
        except KeyError:
            raise ImpossibleEvent(f"{move} is no answer for a request that is {self.state}: not in REQUEST") from None
