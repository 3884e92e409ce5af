"""The promises of the consumer's half, requirement by requirement."""

import itertools

import pytest

from kvlease.protocol import TIMING, LeaseCard, Standing
from kvlease.protocol.clock import TICK_S
from kvlease.protocol.effects import Connect, Disconnect, Fetch, Lose, Send
from kvlease.protocol.messages import TOKENS_PER_MESSAGE, VERSION, Ack, Bye, Gone, Hello, Probe, Renew, Welcome
from kvlease.testing.benches import P2, LesseeBench, P, sent
from proof.promises.structure import lessee_is_empty


def test_r6_the_producer_is_found_through_its_side_channel() -> None:
    d = LesseeBench()
    assert d.track("r1", 1) == [Fetch(d.endpoint)]
    connect, hello = d.fetched(d.card())
    assert connect == Connect(P, b"address of P")
    assert isinstance(hello, Send)
    assert isinstance(hello.message, Hello)
    assert (hello.message.incarnation, hello.message.address) == (d.lessee.incarnation, b"address of D")


def test_the_lessee_says_when_time_next_has_something_to_do() -> None:
    d = LesseeBench()
    assert d.lessee.next_due() is None
    d.open_and_held("r1", 1)
    due = d.lessee.next_due()
    assert due is not None
    assert sent(d.wait(due - d.now - TICK_S), Renew) == [], "the next renewal, and nothing before it"
    assert sent(d.wait(2 * TICK_S), Renew)


def test_r8_a_request_is_claimed_the_moment_it_is_tracked() -> None:
    d = LesseeBench()
    d.open_and_held("r1", 1)
    assert [renew.claims for renew in sent(d.track("r2", 2), Renew)] == [[2]], "no waiting for the next interval"


def test_r8_claims_leave_while_every_turn_brings_a_word() -> None:
    d = LesseeBench()
    d.open_and_held("r0", 0)
    claimed: set[int] = set()
    for token in range(1, 40):
        d.now += TICK_S / 4
        for renew in sent(d.track(f"r{token}", token), Renew):
            claimed.update(renew.claims)
            d.hear(Ack(renew.seq, []))
    assert claimed >= set(range(1, 30)), "each word put the renewal off to the next tick"


def test_r8_an_engine_that_was_idle_for_long_claims_at_once() -> None:
    d = LesseeBench(stall_limit_s=1)
    d.open_and_held()
    d.untrack("r1")
    d.wait(0.1)
    d.hear(Ack(d.last_seq, []))
    d.wait(10, awake=False)
    assert [renew.claims for renew in sent(d.track("r2", 2), Renew)] == [[2]]


def test_r2_it_renews_every_interval_and_r5_once_for_all_leases() -> None:
    d = LesseeBench()
    d.open_and_held()
    for token in range(2, 50):
        d.track(f"r{token}", token)
    d.wait_answered(1)
    renewals = sent(d.wait_answered(30), Renew)
    assert len(renewals) == 6
    assert all(renew.claims == renew.drops == [] for renew in renewals)


def test_r5_there_is_one_session_for_each_producer() -> None:
    d = LesseeBench()
    d.open_and_held("r1", 1)
    assert d.track("r2", 2, P2, ("other", 5600)) == [Fetch(("other", 5600))]
    assert set(d.lessee.sessions) == {P, P2}


def test_r11_ten_thousand_claims_arrive_in_a_dozen_messages() -> None:
    d = LesseeBench()
    renew = d.open_and_held()
    for token in range(2, 10_002):
        d.lessee.track(f"r{token}", d.ref(token), d.endpoint, False, d.now)
    claims: list[int] = []
    windows = 0
    effects = d.turn()
    while (renewals := sent(effects, Renew)) and renewals[0].claims:
        (renew,) = renewals
        assert len(renew.claims) + len(renew.drops) <= TOKENS_PER_MESSAGE
        claims += renew.claims
        windows += 1
        effects = d.hear(Ack(renew.seq, []))
    assert claims == list(range(2, 10_002))
    assert windows == 12


def test_r12_nothing_is_left_behind() -> None:
    d = LesseeBench()
    d.open_and_held()
    assert [renew.drops for renew in sent(d.untrack("r1"), Renew)] == [[1]]
    d.hear(Ack(d.last_seq, []))
    assert d.wait(TIMING.idle_s - 0.1) == [], "R13: nothing to renew, nothing is sent"
    before = d.last_seq
    bye, disconnect = d.wait(0.3)
    assert isinstance(bye, Send)
    assert bye.message == Bye(before + 1)
    assert disconnect == Disconnect(P)
    lessee_is_empty(d.lessee.snapshot())


def test_r12_requests_that_abort_before_the_producer_is_reached_leave_nothing_behind() -> None:
    d = LesseeBench()
    for round_ in range(5):
        d.track(f"r{round_}", round_)
        d.untrack(f"r{round_}")
    for _ in range(100):
        d.wait(0.5)
        if any(session.fetching for session in d.lessee.sessions.values()):
            d.fetched(None)
    lessee_is_empty(d.lessee.snapshot())


def test_r12_a_lease_dropped_before_its_claim_was_sent_is_dropped_at_the_producer_too() -> None:
    d = LesseeBench()
    d.track("r1", 1)
    d.untrack("r1")
    d.track("r2", 2)
    hello = sent(d.fetched(d.card()), Hello)[0]
    (renew,) = sent(d.welcome(hello), Renew)
    assert (renew.claims, renew.drops) == ([2], [1])


def test_r12_close_says_bye_and_what_the_engine_says_afterwards_does_no_harm() -> None:
    d = LesseeBench()
    d.open_and_held()
    d.track("r2", 2, siblings=True)
    d.untrack("r2")
    d.lessee.close()
    effects = d.lessee.take_effects()
    assert [e for e in effects if isinstance(e, Disconnect)] == [Disconnect(P)]
    assert len(sent(effects, Bye)) == 1
    d.untrack("r1")
    d.wait(5)
    assert d.lessee.standing("r1", d.now) is None
    lessee_is_empty(d.lessee.snapshot())


def test_r13_no_empty_renewal_after_the_last_lease() -> None:
    d = LesseeBench()
    d.open_and_held()
    d.untrack("r1")
    d.hear(Ack(d.last_seq, []))
    assert sent(d.wait(60), Renew) == []


def test_r20_held_is_counted_from_the_sending_of_what_was_acknowledged() -> None:
    d = LesseeBench()
    d.open()
    sent_at, seq = d.now, d.last_seq
    assert d.lessee.standing("r1", d.now) is Standing.TRACKED
    d.now += 0.2
    d.hear(Ack(seq, []))
    assert d.lessee.standing("r1", sent_at + 19.99) is Standing.HELD
    assert d.lessee.standing("r1", sent_at + 20.01) is Standing.TRACKED
    assert d.lessee.standing("nobody", d.now) is None


@pytest.mark.parametrize("bad_news", ["unknown", "gone", "bye"])
def test_r20_a_lost_lease_is_told_once_to_each_holder_and_forgotten(bad_news: str) -> None:
    d = LesseeBench()
    renew = d.open("r1")
    d.track("r2", 1)
    news: dict[str, Ack | Gone | Bye] = {"unknown": Ack(renew.seq, [1]), "gone": Gone([1, 77]), "bye": Bye()}
    effects = d.hear(news[bad_news])
    assert [e for e in effects if isinstance(e, Lose)] == [Lose("r1"), Lose("r2")]
    assert d.lessee.standing("r1", d.now) is Standing.LOST
    assert not [e for e in d.hear(Gone([1])) if isinstance(e, Lose)]
    d.track("r1", 1)
    assert d.lessee.standing("r1", d.now) is Standing.LOST, "tracking it twice is ignored"
    d.untrack("r1")
    d.untrack("r2")
    assert d.lessee.standing("r1", d.now) is None
    assert not d.lessee.snapshot().lost


def test_r20_an_unknown_lease_is_not_claimed_again() -> None:
    d = LesseeBench()
    renew = d.open("r1")
    d.track("r2", 2)
    (second,) = sent(d.hear(Ack(renew.seq, [1])), Renew)
    assert second.claims == [2]
    assert d.lessee.standing("r2", d.now) is Standing.TRACKED


def test_r22_another_incarnation_at_the_endpoint_means_that_the_leases_are_lost() -> None:
    d = LesseeBench()
    d.track("r1", 1)
    assert Lose("r1") in d.fetched(d.card(producer=P2))
    d.untrack("r1")
    d.wait(1)
    lessee_is_empty(d.lessee.snapshot())


def test_r22_a_version_that_we_do_not_speak_means_the_same() -> None:
    d = LesseeBench()
    d.track("r1", 1)
    assert Lose("r1") in d.fetched(LeaseCard([VERSION + 1], P, b"", []))


def test_r22_a_wrong_endpoint_of_one_request_does_not_hide_the_right_one_of_another() -> None:
    d = LesseeBench()
    d.track("wrong", 1, endpoint=("wrong", 1))
    d.track("right", 2, endpoint=("right", 2))
    effects = d.fetched(d.card(producer=P2), ("wrong", 1))
    assert Lose("wrong") in effects
    assert Fetch(("right", 2)) in effects
    assert sent(d.fetched(d.card(), ("right", 2)), Hello)


def test_r24_the_lease_is_dropped_when_its_last_holder_lets_go() -> None:
    d = LesseeBench()
    d.open_and_held("r1", 1)
    assert d.track("r2", 1) == [], "the producer knows it already"
    assert d.untrack("r1") == []
    assert d.lessee.standing("r2", d.now) is Standing.HELD
    assert [renew.drops for renew in sent(d.untrack("r2"), Renew)] == [[1]]


def test_r24_a_sibling_on_its_way_finds_the_lease_still_kept() -> None:
    d = LesseeBench()
    d.open_and_held("r1", 1, siblings=True)
    d.untrack("r1")
    assert d.wait(TIMING.sibling_linger_s - 0.1) == []
    d.track("r2", 1)
    assert d.wait(TIMING.sibling_linger_s) == [], "it holds the lease for as long as it wants"
    d.untrack("r2")
    assert [renew.drops for renew in sent(d.wait(TIMING.sibling_linger_s + 0.1), Renew)][:1] == [[1]]


def test_r25_an_idle_engine_says_what_it_drops() -> None:
    """R25: an idle engine sends its drops, though it makes no steps, as a stuck one: there is nothing that it keeps."""
    d = LesseeBench(stall_limit_s=1)
    d.open_and_held()
    assert d.wait(2, awake=False) == []
    assert [renew.drops for renew in sent(d.untrack("r1"), Renew)] == [[1]]


def test_r25_an_engine_that_makes_no_step_stops_renewing_until_it_does() -> None:
    d = LesseeBench(stall_limit_s=12)
    d.open_and_held()
    seq = d.last_seq
    for _ in range(4):
        for renew in sent(d.wait(5.1, awake=False), Renew):
            d.hear(Ack(renew.seq, []))
    assert d.last_seq == seq + 2, "at 5 and 10 s; from 12 s on it is silent"
    assert sent(d.wait(5.1), Renew)


def test_r38_an_engine_that_is_paused_stops_renewing_at_once_and_goes_on_at_once() -> None:
    """R38, vllm 41180, 58041: a paused engine is in no long step: it stops renewing at once, at any stall limit."""
    d = LesseeBench(stall_limit_s=120)
    d.open_and_held()
    d.lessee.progress(d.now, stepping=False)
    assert d.wait(19, awake=False) == []
    d.lessee.progress(d.now)
    assert [renew.claims for renew in sent(d.turn(), Renew)] == [[]]


def test_l2_an_engine_in_the_middle_of_a_step_goes_on_renewing() -> None:
    d = LesseeBench(stall_limit_s=120)
    d.open_and_held()
    d.lessee.progress(d.now, stepping=True)
    assert sent(d.wait(19, awake=False), Renew)


def test_r38_a_paused_engine_that_takes_a_request_on_stays_paused() -> None:
    """R38: a paused engine that takes a request on renews nothing: else a router that goes on sending renewed all."""
    d = LesseeBench(stall_limit_s=120)
    d.open_and_held()
    d.lessee.progress(d.now, stepping=False)
    d.wait(1, awake=False)
    assert d.track("r2", 2) == []
    assert d.wait(10, awake=False) == []


def test_l2_an_idle_engine_that_takes_a_request_on_renews_for_it() -> None:
    d = LesseeBench(stall_limit_s=120)
    d.open_and_held()
    d.untrack("r1")
    d.hear(Ack(d.last_seq, []))
    d.lessee.progress(d.now, stepping=False)
    d.wait(10, awake=False)
    assert [renew.claims for renew in sent(d.track("r2", 2), Renew)] == [[2]]


def test_l2_a_lost_message_is_repeated_soon_with_the_same_changes_under_a_new_seq() -> None:
    d = LesseeBench()
    first = d.open()
    d.track("r2", 2)
    (second,) = sent(d.wait(TIMING.retry_s + 0.05), Renew)
    assert second.seq > first.seq
    assert second.claims == first.claims == [1], "r2 has to wait: any copy's Ack settles all copies"
    (third,) = sent(d.hear(Ack(first.seq, [])), Renew)
    assert third.claims == [2]


def test_s4_an_ack_of_an_older_window_does_not_settle_the_newer_one() -> None:
    d = LesseeBench()
    first = d.open()
    d.track("r2", 2)
    (copy,) = sent(d.wait(TIMING.retry_s + 0.05), Renew)
    d.hear(Ack(first.seq, []))
    d.hear(Ack(copy.seq, []))
    assert d.lessee.standing("r2", d.now) is Standing.TRACKED
    assert [renew.claims for renew in sent(d.wait(TIMING.retry_s + 0.05), Renew)] == [[2]]


def test_s4_the_last_word_on_a_token_wins() -> None:
    d = LesseeBench()
    claim = d.open()
    d.untrack("r1")
    d.track("r1", 1)
    d.untrack("r1")
    (drop,) = sent(d.hear(Ack(claim.seq, [])), Renew)
    assert (drop.claims, drop.drops) == ([], [1])


def test_s4_stale_answers_change_nothing() -> None:
    d = LesseeBench()
    renew = d.open_and_held()
    held_until = d.lessee.sessions[P].held_until
    d.wait_answered(1)
    for late in (Ack(renew.seq, [1]), Ack(999, [1]), Welcome(VERSION, P, 1, 1, 1, 1, 1, 9), Probe()):
        assert d.hear(late) == []
    assert d.hear(Gone([1]), producer=P2) == []
    assert d.lessee.sessions[P].held_until == held_until
    assert d.lessee.sessions[P].number == 1
    assert d.lessee.standing("r1", d.now) is Standing.HELD


def test_s4_a_reopened_session_states_all_claims_and_unheard_drops_again() -> None:
    d = LesseeBench()
    d.open_and_held("r1", 1)
    d.track("r2", 2)
    d.hear(Ack(d.last_seq, []))
    d.untrack("r2")
    d.track("r3", 3)
    d.untrack("r3")
    effects = d.wait(TIMING.tries * (TIMING.retry_s + 0.05) + 0.1)
    assert sent(effects, Hello), "nobody answers: the session is opened anew"
    assert d.lessee.standing("r1", d.now) is Standing.HELD
    (renew,) = sent(d.welcome(sent(effects, Hello)[0], session=2), Renew)
    assert (renew.claims, sorted(renew.drops), renew.session) == ([1], [2, 3], 2)
    assert d.lessee.standing("r1", d.now) is Standing.TRACKED, "until it is acknowledged again"


def test_s4_a_producer_that_ended_claims_gets_them_stated_again() -> None:
    d = LesseeBench()
    d.open_and_held()
    (renew,) = sent(d.wait(5.1), Renew)
    (hello,) = sent(d.hear(Ack(renew.seq, [], reopen=True)), Hello)
    assert d.lessee.standing("r1", d.now) is Standing.TRACKED
    assert [again.claims for again in sent(d.welcome(hello), Renew)] == [[1]]


def test_a_producer_that_does_not_answer_is_sought_again_ever_more_slowly() -> None:
    d = LesseeBench()
    d.open_and_held()
    assert Disconnect(P) in d.wait(5 + 3 * TIMING.tries * TIMING.retry_s)
    fetches: list[float] = []
    while len(fetches) < 10:
        if any(session.fetching for session in d.lessee.sessions.values()):
            fetches.append(d.now)
            d.fetched(None)
        d.wait(0.05)
    pauses = [b - a for a, b in itertools.pairwise(fetches)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 2 * TIMING.retry_s
    assert TIMING.backoff_max_s - 0.1 < pauses[-1] < TIMING.backoff_max_s + 0.2
    assert d.lessee.standing("r1", d.now) is Standing.TRACKED, "not lost: nobody said so"


def test_a_lost_connection_is_made_anew_at_once() -> None:
    d = LesseeBench()
    d.open_and_held()
    d.lessee.peer_lost(P, d.now)
    assert d.turn() == [Disconnect(P), Fetch(d.endpoint)]
    d.lessee.peer_lost(P, d.now)
    assert d.turn() == [], "told twice"
    connect, hello = d.fetched(d.card())
    assert connect == Connect(P, b"address of P")
    assert isinstance(hello, Send)
