"""The rules by which a request goes on: what is sent again, to whom, with which reference; and how it ends."""

import pytest

from kvlease.errors import ImpossibleEvent
from kvlease.routing.actions import AskDecode, AskPrefill, BreakOff, Cancel, PassOn, Refuse, ReleaseLease
from kvlease.routing.engines import EngineReport, EngineRole
from kvlease.routing.facts import (
    BudgetEmpty,
    PromptRecomputed,
    ReferenceHandedOn,
    RequestOver,
    StreamContinued,
    WholePromptSent,
)
from kvlease.routing.failures import FAILURES, EngineFailure
from kvlease.routing.policy import RetryPolicy
from tests.routing.bench import D1, D2, D3, P1, P2, RequestBench, fleet_of, offer

F = EngineFailure
RETRIED = [failure for failure, rule in FAILURES.items() if rule.retried]


def test_a_decode_engine_is_chosen_when_the_prefill_is_done() -> None:
    bench = RequestBench()
    assert bench.start().actions == (AskPrefill(bench.ask.engine, 0.0),)
    bench.fleet.report(1.0, D1, EngineReport(running=99))
    reference = offer()
    assert bench.prefilled(reference).actions == (AskDecode(D2, reference, 0.0),)
    assert bench.began().actions == ()
    assert bench.finished().actions == ()
    assert bench.request.ended
    assert bench.in_flight() == 0
    assert bench.counts.total(RequestOver, outcome="finished") == 1


# -- before the first token --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", RETRIED)
def test_the_same_reference_goes_to_another_decode_engine_at_once(failure: EngineFailure) -> None:
    bench = RequestBench().decoding()
    bench.failed(failure)
    assert bench.actions == (AskDecode(D2, bench.reference, 0.0),)


def test_a_second_engine_that_may_have_to_take_a_lease_over_is_told_of() -> None:
    assert RequestBench().decoding().failed(F.CUT).counts.total(ReferenceHandedOn, failure="cut") == 1
    assert RequestBench().decoding().failed(F.UNREACHABLE).counts.total(ReferenceHandedOn) == 0


def test_a_clients_mistake_is_told_to_no_second_engine() -> None:
    bench = RequestBench().start().failed(F.REFUSED)
    assert bench.actions == (PassOn(),)
    bench = RequestBench().decoding().failed(F.REFUSED)
    # vLLM's D lets go of what it refuses; but it was told not to.
    assert bench.actions == (PassOn(), ReleaseLease(bench.reference or offer(), (D1, D2), P1))
    assert bench.in_flight() == 0


def test_a_reference_without_a_lease_is_seen_by_one_engine_alone() -> None:
    bench = RequestBench().decoding(leased=False)
    bench.failed(F.CUT)
    assert bench.released == [bench.reference]
    assert isinstance(bench.ask, AskPrefill)
    assert bench.counts.total(PromptRecomputed, why="unfenced") == 1


def test_an_engine_that_cannot_be_reached_has_seen_nothing() -> None:
    bench = RequestBench().decoding(leased=False)
    assert bench.failed(F.UNREACHABLE).actions == (AskDecode(D2, bench.reference, 0.0),)


@pytest.mark.parametrize("leased", [False, None])
def test_a_stock_engine_gets_no_reference_that_another_may_have_seen(leased: bool | None) -> None:
    """One of which nothing is known is taken for stock: a wrong answer costs more than a prefill."""
    fleet = fleet_of((D1,))
    fleet.join(0.0, D2, EngineRole.DECODE, leased)
    bench = RequestBench(fleet)
    bench.start()
    fleet.report(1.0, D2, EngineReport(running=99))
    bench.prefilled(offer()).failed(F.SILENT)
    assert bench.released == [bench.reference]
    assert isinstance(bench.ask, AskPrefill)
    assert bench.counts.total(PromptRecomputed, why="no_reader") == 1
    # What it is offered now nobody else has seen.
    bench.prefilled(offer(P2))
    assert bench.actions == (AskDecode(D2, bench.reference, 0.0),)


def test_a_living_engine_comes_before_a_dead_one_even_if_that_costs_a_prefill() -> None:
    fleet = fleet_of((D1, D2))
    fleet.join(0.0, D3, EngineRole.DECODE, leased=False)
    fleet.report(0.0, D3, EngineReport(running=99))
    for _ in range(2):
        fleet.report(0.0, D2, EngineReport(healthy=False))
    bench = RequestBench(fleet).decoding().failed(F.CUT)
    assert bench.ask.engine == D1, "it has kvlease, and may live"
    bench = RequestBench(fleet).decoding().failed(F.SILENT)
    assert isinstance(bench.ask, AskPrefill)
    fleet.leave(D3)
    assert RequestBench(fleet).decoding().failed(F.SILENT).ask.engine == D2, "there is nobody else"


def test_nothing_is_computed_again_where_nobody_is_left_to_read_it() -> None:
    bench = RequestBench(fleet_of((D1,))).decoding(leased=False)
    for _ in range(2):
        bench.fleet.report(1.0, D1, EngineReport(healthy=False))
    refused, _ = bench.failed(F.CUT).actions
    assert isinstance(refused, Refuse)


def test_an_offer_that_nobody_can_read_any_more_is_released() -> None:
    bench = RequestBench().start()
    bench.fleet.leave(D1)
    bench.fleet.leave(D2)
    refused, release = bench.prefilled(offer()).actions
    assert isinstance(refused, Refuse)
    assert release == ReleaseLease(bench.reference or offer(), (), P1)


def test_the_first_token_tells_that_an_engine_lives() -> None:
    bench = RequestBench(fleet_of((D1,)))
    for _ in range(3):
        bench.fleet.ended(0.0, D1, F.CUT, bench.fleet.begun(D1))
    bench.decoding()
    assert bench.fleet.living(1.0, EngineRole.DECODE) == ()
    bench.began()
    assert bench.fleet.living(1.0, EngineRole.DECODE) == (D1,), "not only when its stream has ended"


def test_the_same_engine_is_asked_again_only_where_there_is_no_other() -> None:
    bench = RequestBench(fleet_of((D1,))).decoding()
    assert bench.failed(F.CUT).actions == (AskDecode(D1, bench.reference, 0.0),)
    bench.failed(F.UNREACHABLE)
    assert isinstance(bench.actions[0], Refuse)
    assert bench.actions[0].status == 502


def test_a_draining_engine_is_not_asked_while_another_lives() -> None:
    fleet = fleet_of((D1, D2))
    fleet.report(0.0, D1, EngineReport(draining=True))
    bench = RequestBench(fleet).decoding()
    assert bench.ask.engine == D2
    # It lives, and may answer better: 503 is what a moment's overload gives.
    assert bench.failed(F.BUSY).ask.engine == D2
    assert RequestBench(fleet).decoding().failed(F.UNREACHABLE).ask.engine == D1


def test_two_errors_of_decode_engines_are_the_references_fault_and_four_the_clients() -> None:
    bench = RequestBench(fleet_of((D1, D2, D3))).decoding()
    first = bench.reference
    bench.failed(F.ERROR, F.ERROR)
    assert bench.released == [first]
    assert isinstance(bench.ask, AskPrefill)
    bench.prefilled(offer()).failed(F.ERROR)
    assert isinstance(bench.ask, AskDecode)
    bench.failed(F.ERROR)
    assert bench.actions[0] == PassOn()
    assert bench.released == [bench.reference]


def test_a_request_that_kills_engines_is_given_up() -> None:
    bench = RequestBench(fleet_of((D1, D2, D3))).start().failed(F.CUT).prefilled(offer())
    bench.failed(F.CUT)
    assert isinstance(bench.ask, AskDecode)
    bench.failed(F.CUT)
    assert isinstance(bench.actions[0], Refuse)
    assert "a decode engine closed the connection" in bench.actions[0].message
    assert "http" not in bench.actions[0].message, "clients need not know the engines"


# -- how soon ----------------------------------------------------------------------------------------------------------


def test_the_first_retry_waits_for_nothing_and_later_ones_a_little() -> None:
    policy = RetryPolicy(decode_attempts=9, cuts=9)
    bench = RequestBench(fleet_of((D1, D2, D3)), policy).decoding()
    bench.failed(*[F.CUT] * 8)
    delays = [each.delay_s for each in bench.asked[1:]]
    assert delays[:2] == [0.0, 0.0], "the first call, and the first retry"
    assert all(0 < delay_s <= policy.backoff_max_s for delay_s in delays[2:])
    assert len(set(delays[2:])) == 7, "they are drawn"


def test_an_engine_that_asks_for_time_gets_it_where_there_is_no_other() -> None:
    bench = RequestBench(fleet_of((D1,))).decoding()
    assert bench.failed(F.BUSY, retry_after_s=0.5).ask.delay_s == 0.5
    assert bench.failed(F.BUSY, retry_after_s=60.0).ask.delay_s == bench.policy.backoff_max_s
    assert RequestBench().decoding().failed(F.BUSY, retry_after_s=0.5).ask.delay_s == 0.0


def test_the_client_is_told_when_to_come_back() -> None:
    policy = RetryPolicy(decode_attempts=2)
    bench = RequestBench(policy=policy).decoding().failed(F.BUSY, retry_after_s=7.0)
    refused = bench.failed(F.BUSY).actions[0]
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.retry_after_s) == (503, 7.0)


def test_all_requests_share_a_budget_but_not_for_what_no_engine_has_seen() -> None:
    policy = RetryPolicy(retry_reserve=0)
    bench = RequestBench(policy=policy).decoding().failed(F.UNREACHABLE)
    assert bench.ask.engine == D2
    bench.failed(F.BUSY)
    assert isinstance(bench.actions[0], Refuse)
    assert bench.counts.total(BudgetEmpty, failure="busy") == 1


# -- prefill engines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", RETRIED)
def test_another_prefill_engine_is_asked_then_a_decode_engine_for_the_whole(failure: EngineFailure) -> None:
    bench = RequestBench(policy=RetryPolicy(prefill_attempts=2)).start()
    first = bench.ask.engine
    assert bench.failed(failure).ask == AskPrefill({P1: P2, P2: P1}[first], 0.0)
    assert isinstance(bench.failed(failure).ask, AskDecode)
    assert bench.ask.engine == D1
    assert bench.counts.total(WholePromptSent, why="no_prefill") == 1


def test_no_whole_prompt_goes_to_a_decode_engine_where_that_is_not_allowed() -> None:
    policy = RetryPolicy(whole_prompt_on_decoder=False)
    bench = RequestBench(policy=policy).start().failed(F.UNREACHABLE, F.UNREACHABLE)
    assert isinstance(bench.actions[0], Refuse)
    # An answer without an offer is no failure.
    bench = RequestBench(policy=policy).start().prefilled(None)
    assert bench.actions == (AskDecode(D1, None, 0.0),)


def test_prefill_engines_that_answer_with_errors_are_left_after_two() -> None:
    bench = RequestBench(fleet_of(prefill=(P1, P2, "http://p3"))).start().failed(F.ERROR, F.ERROR)
    assert bench.ask == AskDecode(D1, None, bench.ask.delay_s)
    assert bench.failed(F.ERROR).ask.engine == D2
    assert bench.failed(F.ERROR).actions == (PassOn(),)


def test_nothing_is_computed_where_nobody_could_read_it() -> None:
    bench = RequestBench(fleet_of(())).start()
    refused = bench.actions[0]
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.kind) == (503, "no_engine")
    assert "start one" in refused.message


def test_a_request_that_wants_no_prefill_gets_none() -> None:
    bench = RequestBench(prefill=False).start()
    assert bench.actions == (AskDecode(D1, None, 0.0),)
    assert bench.failed(F.CUT).actions == (AskDecode(D2, None, 0.0),)


# -- the client leaves -------------------------------------------------------------------------------------------------


def test_the_engine_is_told_that_the_client_is_gone() -> None:
    bench = RequestBench().start()
    engine = bench.ask.engine
    assert bench.client_gone().actions == (Cancel(engine),)
    bench = RequestBench().streaming()
    assert bench.client_gone().actions == (Cancel(D1),)
    assert bench.in_flight() == 0
    assert bench.client_gone().actions == ()


def test_a_lease_that_its_reader_may_not_have_seen_is_released_when_the_client_is_gone() -> None:
    bench = RequestBench().decoding()
    bench.client_gone()
    assert bench.actions == (Cancel(D1), ReleaseLease(bench.reference or offer(), (D1, D2), P1))


def test_engines_that_are_dead_are_not_asked_to_release() -> None:
    bench = RequestBench(policy=RetryPolicy(decode_attempts=1)).decoding().failed(F.UNREACHABLE)
    (release,) = (each for each in bench.actions if isinstance(each, ReleaseLease))
    assert release.by == (D2,)


# -- after the first token ---------------------------------------------------------------------------------------------

GOES_ON = RetryPolicy(continue_streams=True)


@pytest.mark.parametrize("policy", [RetryPolicy(), GOES_ON], ids=["not allowed", "not continuable"])
def test_a_stream_that_is_cut_ends_with_an_error(policy: RetryPolicy) -> None:
    bench = RequestBench(policy=policy, continuable=policy is not GOES_ON).streaming().failed(F.CUT)
    (broken,) = bench.actions
    assert isinstance(broken, BreakOff)
    assert broken.kind == "engine_lost"
    assert bench.in_flight() == 0


def test_a_stream_goes_on_at_another_engine_where_that_is_allowed() -> None:
    bench = RequestBench(policy=GOES_ON, continuable=True).streaming().failed(F.CUT)
    assert isinstance(bench.ask, AskPrefill)
    assert (bench.ask.continued, bench.ask.delay_s) == (True, 0.0)
    bench.prefilled(offer())
    assert bench.actions == (AskDecode(D2, bench.reference, 0.0, continued=True),)
    assert bench.began().finished().actions == ()
    assert bench.counts.total(StreamContinued, failure="cut") == 1


def test_a_stream_is_continued_a_few_times_only() -> None:
    policy = RetryPolicy(continue_streams=True, continuations=2)
    bench = RequestBench(policy=policy, continuable=True).streaming()
    for _ in range(2):
        bench.failed(F.CUT).prefilled(offer()).began()
    assert isinstance(bench.failed(F.CUT).actions[0], BreakOff)


def test_a_refusal_of_a_continued_stream_breaks_it_off() -> None:
    bench = RequestBench(policy=GOES_ON, continuable=True).streaming().failed(F.CUT).prefilled(offer())
    broken, release = bench.failed(F.REFUSED).actions
    assert isinstance(broken, BreakOff)
    assert isinstance(release, ReleaseLease)


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_come_is_a_bug_and_changes_nothing() -> None:
    bench = RequestBench().start()
    for report in (bench.start, bench.began, bench.finished):
        with pytest.raises(ImpossibleEvent, match="cannot happen to a request that is prefilling"):
            report()
    assert bench.in_flight() == 1
    bench.prefilled(offer()).finished()
    with pytest.raises(ImpossibleEvent, match="failed cannot happen to a request that is ended"):
        bench.failed(F.CUT)
