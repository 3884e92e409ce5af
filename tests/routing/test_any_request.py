"""The properties of every request, whatever engines and clients do, in any order (hypothesis)."""

from collections.abc import Iterator
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.routing.actions import (
    ANSWERS,
    Action,
    AskDecode,
    AskPrefill,
    BreakOff,
    Cancel,
    KvReference,
    PassOn,
    Refuse,
    ReleaseLease,
)
from kvlease.routing.engines import EngineReport, EngineRole
from kvlease.routing.facts import RequestOver
from kvlease.routing.failures import FAILURES, EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget, RetryPolicy
from kvlease.routing.request import RoutedRequest
from kvlease.routing.states import REQUEST, RequestState
from tests.routing.bench import FactCounts, offer

POLICIES = st.builds(
    RetryPolicy,
    prefill_attempts=st.integers(1, 4),
    decode_attempts=st.integers(1, 5),
    errors=st.integers(1, 5),
    cuts=st.integers(1, 5),
    errors_each_way=st.integers(1, 3),
    continue_streams=st.booleans(),
    continuations=st.integers(0, 2),
    whole_prompt_on_decoder=st.booleans(),
    retry_reserve=st.integers(0, 20),
    retry_ratio=st.just(0.0),
    retry_floor_per_s=st.just(0.0),
)


class JudgedRequest:
    """One request, every action of which is judged as it comes."""

    def __init__(self, fleet: EngineFleet, policy: RetryPolicy, budget: RetryBudget, chance: Random) -> None:
        self.counts = FactCounts()
        self.call: AskPrefill | AskDecode | None = None
        self._policy = policy
        self._chance = chance
        self._leased = {view.url: view.leased for view in fleet.snapshot(0.0)}
        self.request = RoutedRequest(
            fleet,
            policy,
            budget,
            chance,
            keys=(b"k",),
            prefill=chance.random() < 0.9,
            continuable=chance.random() < 0.7,
            tell=self.counts.hear,
        )
        self.answers: list[Action] = []
        self.retried = 0
        self._out: set[KvReference] = set()
        self._seen: set[KvReference] = set()
        self._prefills = self._decodes = self._pieces = 0
        self._retries = 0
        self._streamed = self._finished = self._gone = False

    def go_on(self, now: float) -> None:
        """Reports something that can come now."""
        chance, request, call = self._chance, self.request, self.call
        if request.state is RequestState.NEW:
            self._judge(request.start(now))
        elif chance.random() < 0.05:
            self.leave(now)
        elif isinstance(call, AskPrefill) and chance.random() < 0.6:
            self.call = None
            reference = offer(call.engine, leased=chance.random() < 0.7) if chance.random() < 0.9 else None
            if reference is not None:
                self._out.add(reference)
            self._judge(request.prefilled(now, reference))
        elif isinstance(call, AskDecode) and chance.random() < 0.5:
            self._answer(now, call)
        else:
            self._fail(now)

    def leave(self, now: float) -> None:
        """The client leaves."""
        call, self.call = self.call, None
        self._gone = True
        actions = self.request.client_gone(now)
        self._judge(actions)
        assert [each.engine for each in actions if isinstance(each, Cancel)] == ([] if call is None else [call.engine])
        assert self.request.client_gone(now) == ()

    def _answer(self, now: float, call: AskDecode) -> None:
        if call.reference is not None:
            self._out.discard(call.reference)
        if self.request.state is not RequestState.STREAMING and self._chance.random() < 0.7:
            assert self.request.began(now) == ()
            self._streamed, self._retries, self._pieces = True, 0, self._pieces + 1
        else:
            self.call, self._finished = None, True
            assert self.request.finished(now) == ()

    def _fail(self, now: float) -> None:
        call, self.call = self.call, None
        assert call is not None
        failure = self._chance.choice(list(EngineFailure))
        reference = call.reference if isinstance(call, AskDecode) else None
        if reference is not None and FAILURES[failure].seen:
            self._seen.add(reference)
        actions = self.request.failed(now, failure, self._chance.choice([None, 0.2, 90.0]))
        if failure is EngineFailure.REFUSED:
            assert self.call is None
            assert not any(isinstance(each, AskPrefill | AskDecode) for each in actions), "a 4xx is not retried"
        self._judge(actions, failure=failure, failed=call)

    def _judge(
        self,
        actions: tuple[Action, ...],
        failure: EngineFailure | None = None,
        failed: AskPrefill | AskDecode | None = None,
    ) -> None:
        assert not self.answers, "an action after the end"
        for action in actions:
            match action:
                case AskPrefill() | AskDecode():
                    assert self.call is None, "one call at a time"
                    self.call = action
                    self._judge_call(action, failure, failed)
                case ReleaseLease(reference):
                    # Nobody is asked to read it later, and nobody releases it twice.
                    self._out.remove(reference)
                case PassOn() | Refuse() | BreakOff():
                    self.answers.append(action)
                    assert isinstance(action, BreakOff) is self._streamed
                case Cancel():
                    assert self._gone

    def _judge_call(
        self, call: AskPrefill | AskDecode, failure: EngineFailure | None, failed: AskPrefill | AskDecode | None
    ) -> None:
        assert call.continued is self._streamed
        if failure is not None:
            self._retries += 1
            self.retried += FAILURES[failure].budget
        assert 0 <= call.delay_s <= self._policy.backoff_max_s
        if self._retries <= 1 and failed is not None and call.engine != failed.engine:
            assert call.delay_s == 0.0, "the first retry waits for nothing"
        if isinstance(call, AskPrefill):
            self._prefills += 1
            return
        self._decodes += 1
        if call.reference is not None:
            assert call.reference in self._out, "a reference that was released, or read, is not sent"
            if call.reference in self._seen:
                assert call.reference.leased, "a reference without a lease is sent once"
                assert self._leased[call.engine], "a read that is not fenced"

    def check_end(self) -> None:
        """Judges the whole."""
        assert self.request.ended
        assert self._out == set(), "every offer is read, or released"
        ends = [len(self.answers), self._finished, self._gone]
        assert sum(map(int, ends)) == 1, "exactly one end"
        assert self.counts.total(RequestOver) == 1
        assert self._prefills <= self._policy.prefill_attempts * (1 + self._policy.continuations)
        assert self._decodes <= self._policy.decode_attempts * (1 + self._policy.continuations)


def fleets(chance: Random) -> EngineFleet:
    fleet = EngineFleet()
    for role, most in ((EngineRole.PREFILL, 3), (EngineRole.DECODE, 4)):
        for number in range(chance.choice([0, *range(1, most + 1), *range(1, most + 1)])):
            fleet.join(0.0, f"{role}{number}", role, chance.choice([True, True, False, None]))
    return fleet


def trouble(fleet: EngineFleet, chance: Random, now: float) -> None:
    """Something that happens to an engine by itself; its connector stays what it was."""
    for view in fleet.snapshot(now):
        if chance.random() < 0.1:
            report = EngineReport(
                healthy=chance.random() < 0.7, draining=chance.choice([None, True, False]), running=chance.randrange(9)
            )
            fleet.report(now, view.url, report)


@settings(max_examples=100, deadline=None)
@given(policy=POLICIES, seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_every_request_ends_once_and_leaves_nothing(policy: RetryPolicy, seed: int, count: int) -> None:
    chance = Random(seed)
    fleet, budget, now = fleets(chance), RetryBudget(policy, 0.0), 0.0
    requests = [JudgedRequest(fleet, policy, budget, chance) for _ in range(count)]
    for steps in going_on(requests):
        assert steps < 1000, "they end"
        now += chance.choice([0.0, 0.01, 3.0])
        trouble(fleet, chance, now)
        chance.choice([each for each in requests if not each.request.ended]).go_on(now)
    for each in requests:
        each.check_end()
    assert all(view.in_flight == 0 for view in fleet.snapshot(now))
    assert sum(each.retried for each in requests) <= policy.retry_reserve, "the budget of all"


def going_on(requests: list[JudgedRequest]) -> Iterator[int]:
    steps = 0
    while any(not each.request.ended for each in requests):
        yield steps
        steps += 1


def test_random_requests_take_every_move_of_the_table() -> None:
    """The table has nothing that no request ever does, and all of it is judged above."""
    taken: set[tuple[object, ...]] = set()
    for seed in range(300):
        chance = Random(seed)
        policy = RetryPolicy(continue_streams=True, whole_prompt_on_decoder=seed % 3 > 0)
        fleet, budget = fleets(chance), RetryBudget(policy, 0.0)
        judged = JudgedRequest(fleet, policy, budget, chance)
        if seed % 20 == 0:
            judged.leave(0.0)
        for _ in going_on([judged]):
            before = judged.request.state
            judged.go_on(0.0)
            taken.add((before, judged.request.state))
    moves = {(state, after) for (state, _), moves in REQUEST.items() for after in moves.values()}
    assert moves - taken == {(RequestState.ENDED, RequestState.ENDED)}
    assert (PassOn, Refuse, BreakOff) == ANSWERS
