"""The judge of what a router promises for its requests, by facts of the run, never by what the router believes.

one end        a request ends once, and the client has one answer, no token of it twice
answered       none is refused while an engine that was well all the time was not asked, and tries were left
computed once  none is computed again without a token, while its lease could be read, and by whom
fenced         what an engine may have seen is sent on under a lease only, to an engine that reads under leases
freed          what was offered for a request that is over is held no more, soon after
bounded        a request is sent to no more engines than its policy says
counted        no call counts as under way when all requests are over
passed on      what an engine has refused as the client's mistake is not sent again
breaker        no engine is shut for answers with 500 alone

They hold where they can: `freed` speaks of calm times, and `answered` of engines that were well since the request came.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvlease.protocol import LeaseRef
from kvlease.routing.actions import ANSWERS, Action, AskDecode, AskPrefill, KvReference
from kvlease.routing.breaker import BreakerState
from kvlease.routing.engines import EngineRole, EngineView
from kvlease.routing.facts import BudgetEmpty, ReferenceHandedOn, RouterFact, StreamContinued
from kvlease.routing.failures import EngineFailure
from kvlease.routing.states import RequestState
from proof.promises.safety import Violation
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.facts import Facts
from proof.simulate.fronts import EngineFronts
from proof.simulate.promises import QUICK_S, STEPS
from proof.simulate.requests import Prefill
from proof.simulate.routed_plan import RouterPlan
from proof.simulate.trouble import Trouble

RELEASERS = 3
"""The most engines that are asked for one release."""
_NOT_SEEN = EngineFailure.UNREACHABLE
_ANSWERS = (EngineFailure.ABORTED, EngineFailure.REFUSED)
"""The failures that end a row of failures: an engine that says so lives."""


@dataclass(slots=True, eq=False)
class _Offer:
    """A lease that was offered for a routed request."""

    ref: LeaseRef
    producer: SimEngine
    asked: list[SimEngine] = field(default_factory=list)
    """The consumers that were sent it."""
    over_at: float = math.inf
    """The time at which its request ended, or its prompt was computed again."""


@dataclass(slots=True, eq=False)
class RoutedFacts:
    """The facts of one routed request."""

    number: int
    since: float
    continuable: bool = False
    began: bool = False
    """The client has a token."""
    how: str = ""
    """The origin of its answer (`Decode.how`)."""
    ends: int = 0
    prefills: int = 0
    """The calls to prefill engines, all together."""
    answer: Action | None = None
    """The error that the client got."""
    reference: KvReference | None = None
    offer: _Offer | None = None
    """The lease of that reference."""
    seen: bool = False
    """An engine may have seen the reference."""
    tried: set[str] = field(default_factory=set)
    """The engines, by URL, at which a call has failed; in a stream that goes on, since then."""
    calls: Counter[EngineRole] = field(default_factory=Counter)
    failures: Counter[EngineFailure] = field(default_factory=Counter)
    errors: Counter[EngineRole] = field(default_factory=Counter)
    continued: int = 0
    handed_on: bool = False
    """A second engine got a reference that another one may have seen."""
    budget_empty: bool = False


class FailoverPromises:
    """The judge. It is told what the router decides, and what it hears."""

    def __init__(
        self,
        context: Context,
        engines: Mapping[str, SimEngine],
        facts: Facts,
        trouble: Trouble,
        fronts: EngineFronts,
        plan: RouterPlan,
    ) -> None:
        self._context = context
        self._engines = engines
        self._facts = facts
        self._trouble = trouble
        self._fronts = fronts
        self._plan = plan
        self._rows: dict[str, set[EngineFailure]] = {}
        """The failures of each engine, by URL, since it has answered last."""
        self._over: list[_Offer] = []
        """The leases of requests that are over, as long as they are held."""
        self.all: list[RoutedFacts] = []

    # -- what the router is told ---------------------------------------------------------------------------------

    def heard(self, facts: RoutedFacts, fact: RouterFact) -> None:
        """The core tells a fact."""
        name = type(fact).__name__
        self._context.counts[f"router.{name}{'.' + fact.outcome if hasattr(fact, 'outcome') else ''}"] += 1
        if isinstance(fact, BudgetEmpty):
            facts.budget_empty = True
        elif isinstance(fact, StreamContinued):
            facts.continued += 1
        elif isinstance(fact, ReferenceHandedOn):
            facts.handed_on = True

    def offered(self, facts: RoutedFacts, reference: KvReference, producer: SimEngine, prefill: Prefill) -> None:
        """A prefill engine's offer has come to the router."""
        facts.reference, facts.seen, facts.offer = reference, False, None
        facts.errors.pop(EngineRole.DECODE, None)
        if reference.leased:
            assert prefill.token is not None
            facts.offer = _Offer(LeaseRef.from_params(reference.params["kv_lease"]), producer)

    def answered(self, facts: RoutedFacts, url: str, *, read: bool) -> None:
        """An engine has answered; `read`: a decode engine, which has read what it was to read."""
        self._rows.pop(url, None)
        if read:
            self._let_go(facts)

    def failed(self, facts: RoutedFacts, url: str, role: EngineRole, failure: EngineFailure, *, began: bool) -> None:
        """A call has failed; `began`: after its first token."""
        if failure in _ANSWERS:
            self._rows.pop(url, None)
        else:
            self._rows.setdefault(url, set()).add(failure)
        if began:
            # What goes on begins with all its tries again.
            facts.tried.clear()
            facts.calls.clear()
            facts.failures.clear()
            facts.errors.clear()
        facts.tried.add(url)
        facts.failures[failure] += 1
        if failure is EngineFailure.ERROR:
            facts.errors[role] += 1
        if role is EngineRole.DECODE and facts.reference is not None and failure is not _NOT_SEEN:
            facts.seen = True

    # -- what it decides -----------------------------------------------------------------------------------------

    def decided(self, facts: RoutedFacts, actions: Sequence[Action]) -> None:
        """Judge the core's actions."""
        for action in actions:
            if isinstance(action, AskPrefill | AskDecode):
                self._judge_call(facts, action)
            elif isinstance(action, ANSWERS):
                facts.answer = action
                self._judge_answer(facts, action)

    def _judge_call(self, facts: RoutedFacts, action: AskPrefill | AskDecode) -> None:
        policy = self._plan.policy
        if facts.began and not (action.continued and policy.continue_streams and facts.continuable):
            raise Violation("one end", f"r{facts.number} is sent again, and its client has a token of it")
        if facts.failures[EngineFailure.REFUSED]:
            raise Violation("passed on", f"r{facts.number} is sent again, and an engine has refused it (4xx)")
        role = EngineRole.PREFILL if isinstance(action, AskPrefill) else EngineRole.DECODE
        facts.calls[role] += 1
        most = policy.prefill_attempts if role is EngineRole.PREFILL else policy.decode_attempts
        if facts.calls[role] > most:
            raise Violation("bounded", f"r{facts.number} is sent to {facts.calls[role]} {role} engines: {most} are")
        if isinstance(action, AskPrefill):
            facts.prefills += 1
            self._judge_recomputed(facts)
            self._let_go(facts)
        elif action.reference is not None:
            self._judge_handed_on(facts, action)

    def _judge_handed_on(self, facts: RoutedFacts, action: AskDecode) -> None:
        name = action.engine.partition(":")[2]
        assert action.reference is facts.reference, f"r{facts.number} has another reference"
        if facts.seen and (facts.offer is None or name in self._plan.stock):
            raise Violation("fenced", f"r{facts.number} goes to {name} with what another engine may have seen")
        if facts.offer is not None:
            facts.offer.asked.append(self._engines[name])

    def _judge_recomputed(self, facts: RoutedFacts) -> None:
        offer = facts.offer
        if offer is None or facts.errors[EngineRole.DECODE] >= self._plan.policy.errors_each_way:
            return
        ref = offer.ref
        readable = offer.producer.alive and self._context.safety.is_readable(ref.incarnation, ref.token, ref.slot)
        if readable and (well := self._untried(facts, EngineRole.DECODE, fenced=True)):
            raise Violation("computed once", f"r{facts.number} again, while {well[0]} could read {ref.token:016x}")

    def _judge_answer(self, facts: RoutedFacts, action: Action) -> None:
        """Judge an error that a client gets."""
        policy = self._plan.policy
        if facts.began and not (policy.continue_streams and facts.continuable):
            return
        used_up = (
            facts.budget_empty
            or facts.failures[EngineFailure.REFUSED] > 0
            or facts.continued >= policy.continuations
            or facts.calls[EngineRole.DECODE] >= policy.decode_attempts
            or facts.failures[EngineFailure.ERROR] >= policy.errors
            or facts.failures[EngineFailure.CUT] >= policy.cuts
        )
        well = self._untried(facts, EngineRole.DECODE)
        if used_up or not well or not self._has_source(facts):
            return
        raise Violation("answered", f"r{facts.number} gets {action}, and {well[0]} was not asked")

    def _has_source(self, facts: RoutedFacts) -> bool:
        """Tells whether a decode engine that was not asked could be given what it needs."""
        policy = self._plan.policy
        if policy.whole_prompt_on_decoder or (facts.reference is not None and not facts.seen):
            return True
        more = facts.calls[EngineRole.PREFILL] < policy.prefill_attempts
        more = more and facts.errors[EngineRole.PREFILL] < policy.errors_each_way
        return more and bool(self._untried(facts, EngineRole.PREFILL))

    def _untried(self, facts: RoutedFacts, role: EngineRole, fenced: bool = False) -> list[str]:
        """The engines that were well since the request came, have failed nobody since their last answer, and were not
        asked by it."""
        plan = self._context.plan
        names = plan.producers if role is EngineRole.PREFILL else plan.consumers
        return [
            name
            for name in names
            if (url := f"{role}:{name}") not in facts.tried
            and not self._rows.get(url)
            and not (fenced and name in self._plan.stock)
            and self.well_since(name) <= facts.since
        ]

    def well_since(self, name: str) -> float:
        """Returns since when an engine answers whoever asks; infinite where it does not, or its agent does not."""
        engine = self._engines[name]
        if not engine.running or engine.agent.died_at is not None:
            return math.inf
        ill_until = self._fronts.ill_until.get(name, -math.inf)
        return max(engine.started_at, self._trouble.calm_since_at(name), engine.long_until, ill_until)

    def look_at(self, engines: Iterable[EngineView]) -> None:
        """Judge what the router believes of engines."""
        for view in engines:
            row = self._rows.get(view.url, set())
            if view.breaker is not BreakerState.CLOSED and not row - {EngineFailure.ERROR}:
                said = ", ".join(sorted(row)) or "no failure"
                raise Violation("breaker", f"{view.url} is {view.breaker} after {said}")

    # -- ends ----------------------------------------------------------------------------------------------------

    def ended(self, facts: RoutedFacts, state: RequestState) -> None:
        """A request is over for the router."""
        assert state is RequestState.ENDED
        facts.ends += 1
        if facts.ends > 1:
            raise Violation("one end", f"r{facts.number} ends a second time")
        self.all.append(facts)
        self._let_go(facts)

    def _let_go(self, facts: RoutedFacts) -> None:
        """Nobody is to read what was offered any more."""
        if facts.offer is not None:
            facts.offer.over_at = self._context.agenda.now
            self._over.append(facts.offer)
        facts.reference = facts.offer = None

    def check(self) -> None:
        """Check that what was offered for requests that are over is not held; to be called often."""
        now, left = self._context.agenda.now, []
        for offer in self._over:
            if not offer.producer.alive or not offer.producer.prefill.side.blocks.holds(offer.ref.token):
                continue
            left.append(offer)
            if now > self._latest_end(offer):
                raise Violation(
                    "freed", f"{offer.ref.token:016x} is held, and its request was over at {offer.over_at:.3f}"
                )
        self._over = left

    def _latest_end(self, offer: _Offer) -> float:
        """The time by which a lease is over, if nothing but the death of consumers disturbs it."""
        config, producer = self._context.config, offer.producer
        grant = self._facts.grants.get(offer.ref.token)
        if any(asked.name in self._plan.stock for asked in offer.asked):
            # Its notices are not simulated.
            return math.inf
        if grant is None or any(wish.token == offer.ref.token for wish in self._facts.wishes.values()):
            return math.inf
        begun = max(offer.over_at, grant.wanted_at)
        if not self._is_calm_since(offer.over_at - config.extension_s - config.duration_s, producer):
            return math.inf
        steps_s = STEPS * self._context.plan.step_s + 4 * self._context.plan.turn_s
        longest_s = RELEASERS * self._plan.policy.limits.release_s + 2 * QUICK_S + steps_s
        if any(not asked.alive for asked in offer.asked):
            longest_s += config.orphan_grace_s + 3 * config.probe_interval_s
        return begun + longest_s

    def _is_calm_since(self, since: float, producer: SimEngine) -> bool:
        """Tells whether all engines but dead ones, whose death shows, were heard by this producer all the time."""
        for engine in self._engines.values():
            if not engine.alive:
                if not self._context.network.ports[engine.incarnation].death_shows:
                    return False
                continue
            if engine.agent.died_at is not None or not engine.running:
                return False
            ill = max(
                self._trouble.calm_since_at(engine.name),
                self._trouble.calm_between(engine.name, producer.name),
                engine.long_until,
                engine.started_at if engine.started_at > 0.0 else -math.inf,
            )
            if ill > since:
                return False
        return True

    def check_nothing_is_left(self, engines: Iterable[EngineView]) -> None:
        """Check that no call is counted when all requests are over."""
        for view in engines:
            if view.in_flight:
                raise Violation("counted", f"{view.in_flight} calls are counted at {view.url}, and all are over")
