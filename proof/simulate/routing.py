"""kvlease's router in a run: the product's core decides, and the run carries out its actions on simulated engines.

It is the same sequence of calls as in the product's driver (`kvlease.router.handling`), by one router, whose engines
are all of the run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kvlease.protocol import Fingerprint
from kvlease.router.bodies import ON_REJECT
from kvlease.routing.actions import ANSWERS, Action, AskDecode, AskPrefill, Cancel, KvReference, ReleaseLease
from kvlease.routing.engines import EngineReport, EngineRole, FleetSettings
from kvlease.routing.facts import RouterFact
from kvlease.routing.failures import EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget
from kvlease.routing.request import RoutedRequest
from proof.simulate.context import Context
from proof.simulate.engine import PORT, SimEngine
from proof.simulate.failover import FailoverPromises, RoutedFacts
from proof.simulate.fronts import EngineFronts, FrontCall
from proof.simulate.plan import UserRequest
from proof.simulate.releases import SimReleases
from proof.simulate.requests import Decode, Prefill
from proof.simulate.routed_plan import RouterPlan
from proof.simulate.users import prompt_labels_of


@dataclass(slots=True, eq=False)
class _Routed:
    """A client's request, and the call that is under way for it."""

    number: int
    request: UserRequest
    machine: RoutedRequest
    facts: RoutedFacts
    call: FrontCall | None = None
    calls: int = 0
    left: bool = False
    """The client has gone away."""
    offers: dict[KvReference, Prefill] = field(default_factory=dict)


def url_of(role: EngineRole, name: str) -> str:
    """Returns what the router knows an engine by: one that is both P and D is two to it."""
    return f"{role}:{name}"


def name_of(url: str) -> str:
    """Returns the engine's name in the run."""
    return url.partition(":")[2]


class SimRouter:
    """All requests of one router. `unanswered`: the requests, by number, that have not ended."""

    def __init__(
        self,
        context: Context,
        engines: Mapping[str, SimEngine],
        plan: RouterPlan,
        requests: Mapping[int, UserRequest],
        judge: FailoverPromises,
        fronts: EngineFronts,
    ) -> None:
        self._context = context
        self._engines = engines
        self._plan = plan
        self._chance = context.chance.of("router")
        self._judge = judge
        self.fronts = fronts
        self.fleet = EngineFleet(FleetSettings())
        self._budget = RetryBudget(plan.policy, 0.0)
        self._releases = SimReleases(context, engines, fronts, plan.policy.limits.release_s)
        self.unanswered = set(requests)
        self._routed: dict[int, _Routed] = {}
        for role, names in ((EngineRole.PREFILL, context.plan.producers), (EngineRole.DECODE, context.plan.consumers)):
            for name in names:
                self.fleet.join(0.0, url_of(role, name), role)
                context.agenda.after(0.0, partial(self._poll, role, name))
        for number, request in requests.items():
            context.agenda.at(request.at_s, partial(self._begin, number, request))

    # -- a request's way -----------------------------------------------------------------------------------------

    def _begin(self, number: int, request: UserRequest) -> None:
        facts = RoutedFacts(number, self._context.agenda.now, request.streams)
        tell: Callable[[RouterFact], None] = partial(self._judge.heard, facts)
        machine = RoutedRequest(
            self.fleet, self._plan.policy, self._budget, self._chance, continuable=request.streams, tell=tell
        )
        user = self._routed[number] = _Routed(number, request, machine, facts)
        if request.abort_s is not None:
            self._context.agenda.after(request.abort_s, partial(self._leave, user))
        self._follow(user, machine.start(self._context.agenda.now))

    def _follow(self, user: _Routed, actions: Sequence[Action]) -> None:
        """Carry out what the core says."""
        now = self._context.agenda.now
        self._judge.decided(user.facts, actions)
        for action in actions:
            match action:
                case AskPrefill() | AskDecode():
                    wait = partial(self._ask, user, action)
                    if action.delay_s > 0.0:
                        self._context.agenda.after(action.delay_s, wait)
                    else:
                        wait()
                case ReleaseLease(reference, by, producer):
                    names = tuple(name_of(url) for url in by)
                    self._releases.begin(action, user.offers[reference], names, name_of(producer))
                case Cancel():
                    self._close(user)
                case _:
                    assert isinstance(action, ANSWERS)
                    self._context.tell(f"the router answers r{user.number}: {action}")
        self._judge.look_at(self.fleet.snapshot(now))
        if user.machine.ended:
            self._over(user)

    def _over(self, user: _Routed) -> None:
        self._judge.ended(user.facts, user.machine.state)
        self.unanswered.discard(user.number)

    def _ask(self, user: _Routed, action: AskPrefill | AskDecode) -> None:
        if user.machine.ended or user.left:
            return
        user.calls += 1
        request_id, name = f"r{user.number}.{user.calls}", name_of(action.engine)
        labels = prompt_labels_of(user.number, user.request)
        prompt = Fingerprint(user.request.blocks, user.number)
        work: Prefill | Decode
        if isinstance(action, AskPrefill):
            work = Prefill(request_id, user.number, prompt, labels, user.request.prefill_steps)
        else:
            work = self._decode(user, action.reference, request_id, name, prompt)
        call = user.call = FrontCall(name, work, partial(self._failed, user))
        self._context.tell(f"the router sends {request_id} to {action.engine}")
        limits = self._plan.policy.limits
        limit_s = limits.prefill_s if isinstance(work, Prefill) else limits.whole_answer_s
        if isinstance(work, Decode) and work.streams:
            limit_s = limits.first_token_s
        if limit_s is not None:
            self._context.agenda.after(limit_s, partial(self._be_silent, user, call))
        self.fronts.send(call)

    def _decode(
        self, user: _Routed, reference: KvReference | None, request_id: str, name: str, prompt: Fingerprint
    ) -> Decode:
        params: dict[str, Any] | None = None
        truth: int | None = None
        labels: tuple[int, ...] = ()
        if reference is not None and reference.leased and name not in self._plan.stock:
            prefill = user.offers[reference]
            params = {**reference.params, **({ON_REJECT: "return"} if self._plan.returns else {})}
            truth, labels = prefill.token, prefill.labels
        return Decode(
            request_id, user.number, prompt, params, truth, labels, user.request.busy_s, streams=user.request.streams
        )

    def _close(self, user: _Routed) -> None:
        if user.call is not None:
            self.fronts.close(user.call)
            user.call = None

    # -- what comes of a call ------------------------------------------------------------------------------------

    def prefilled(self, engine: SimEngine, prefill: Prefill, offer: dict[str, Any] | None) -> bool:
        """An engine answers a prefill. Returns False where it is not the router's."""
        user = self._routed.get(prefill.user)
        if user is not None:
            self.fronts.answer(engine, prefill, partial(self._hear_offer, user, engine, prefill, offer))
        return user is not None

    def _hear_offer(self, user: _Routed, engine: SimEngine, prefill: Prefill, offer: dict[str, Any] | None) -> None:
        params: dict[str, Any] = {"do_remote_prefill": offer is not None}
        if offer is not None:
            params |= {"remote_engine_id": engine.engine_id, "remote_host": engine.name, "remote_port": PORT} | offer
            if engine.name in self._plan.stock:
                del params["kv_lease"]
        reference = KvReference.of(params, url_of(EngineRole.PREFILL, engine.name))
        if reference is not None:
            user.offers[reference] = prefill
            self._judge.offered(user.facts, reference, engine, prefill)
        self._judge.answered(user.facts, url_of(EngineRole.PREFILL, engine.name), read=False)
        self._end_call(user)
        self._follow(user, user.machine.prefilled(self._context.agenda.now, reference))
        if user.left and not user.machine.ended:
            self._let_go(user)

    def began(self, engine: SimEngine, decode: Decode) -> None:
        """An engine has the first token of a stream."""
        user = self._routed.get(decode.user)
        if user is not None:
            self.fronts.answer(engine, decode, partial(self._hear_token, user, engine), last=False)

    def _hear_token(self, user: _Routed, engine: SimEngine) -> None:
        assert user.call is not None
        user.facts.began = user.call.began = True
        self._judge.answered(user.facts, url_of(EngineRole.DECODE, engine.name), read=True)
        self._follow(user, user.machine.began(self._context.agenda.now))
        self._watch_stream(user, user.call, engine, self._context.agenda.now)

    def answered(self, engine: SimEngine, decode: Decode) -> bool:
        """An engine has given its whole answer. Returns False where it is not the router's."""
        user = self._routed.get(decode.user)
        if user is not None:
            self.fronts.answer(engine, decode, partial(self._hear_end, user, engine, decode))
        return user is not None

    def _hear_end(self, user: _Routed, engine: SimEngine, decode: Decode) -> None:
        self._judge.answered(user.facts, url_of(EngineRole.DECODE, engine.name), read=True)
        self._end_call(user)
        user.facts.how = decode.how
        self._follow(user, user.machine.finished(self._context.agenda.now))

    def _end_call(self, user: _Routed) -> None:
        assert user.call is not None
        user.call.over = True
        user.call = None

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def _failed(self, user: _Routed, failure: EngineFailure) -> None:
        call = user.call
        assert call is not None
        self._context.tell(f"the router hears of {call.work.request_id} at {call.engine}: {failure}")
        self._context.counts[f"failures.{failure}"] += 1
        call.over = True
        user.call = None
        if user.left:
            # It has hung up, and nothing was offered.
            self._let_go(user)
            return
        role = EngineRole.PREFILL if isinstance(call.work, Prefill) else EngineRole.DECODE
        self._judge.failed(user.facts, url_of(role, call.engine), role, failure, began=call.began)
        self._follow(user, user.machine.failed(self._context.agenda.now, failure))

    def _break(self, user: _Routed, call: FrontCall, failure: EngineFailure) -> None:
        """Close a call whose engine is not waited for any more."""
        if user.call is call and not call.over:
            self.fronts.close(call)
            self._failed(user, failure)

    def _be_silent(self, user: _Routed, call: FrontCall) -> None:
        if not call.began:
            self._break(user, call, EngineFailure.SILENT)

    def _watch_stream(self, user: _Routed, call: FrontCall, engine: SimEngine, heard_at: float) -> None:
        """Break a stream whose engine says nothing for too long."""
        limit_s = self._plan.policy.limits.between_tokens_s
        if limit_s is None:
            return
        now = self._context.agenda.now
        heard_at = now if engine.running else heard_at
        if now - heard_at >= limit_s:
            self._break(user, call, EngineFailure.SILENT)
        elif user.call is call and not call.over:
            self._context.agenda.after(limit_s / 2, partial(self._watch_stream, user, call, engine, heard_at))

    # -- a client that leaves ------------------------------------------------------------------------------------

    def leave(self, number: int) -> None:
        """Let the client of a request go away, if it has asked, and waits."""
        if (user := self._routed.get(number)) is not None:
            self._leave(user)

    def _leave(self, user: _Routed) -> None:
        if user.machine.ended or user.left:
            return
        user.left = True
        self._context.tell(f"the client of r{user.number} goes away")
        call = user.call
        if call is not None and isinstance(call.work, Prefill) and self.fronts.hang_up(call):
            # An offer may be on its way.
            return
        self._let_go(user)

    def _let_go(self, user: _Routed) -> None:
        self._follow(user, user.machine.client_gone(self._context.agenda.now))

    # -- engines -------------------------------------------------------------------------------------------------

    def _poll(self, role: EngineRole, name: str) -> None:
        engine, decode = self._engines[name], self._engines[name].decode
        report = EngineReport(
            healthy=engine.running,
            running=len(decode.reading) + len(decode.running),
            waiting=len(decode.waiting) + len(decode.arrived),
            draining=bool(self.fronts.draining[name]) if self._plan.shows_drain else None,
            leased=name not in self._plan.stock,
        )
        if self.fleet.report(self._context.agenda.now, url_of(role, name), report):
            self._context.tell(f"the router takes {url_of(role, name)} for dead")
            for user in list(self._routed.values()):
                call = user.call
                if call is None or call.engine != name or isinstance(call.work, Prefill) is (role is EngineRole.DECODE):
                    continue
                if not call.began:
                    self._break(user, call, EngineFailure.CUT)
        self._context.agenda.after(self._plan.poll_s, partial(self._poll, role, name))
