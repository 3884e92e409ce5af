"""The wire benchmark counts every byte that is sent: small cases are worked out by hand, byte by byte."""

import socket

import pytest

from kvlease.protocol.messages import Ack, Probe, Renew, encode
from proof.bench.frame.figures import Effort
from proof.bench.wire import header as wire_header
from proof.bench.wire import measure as wire
from proof.bench.wire import stock as wire_stock
from proof.bench.wire.measure import Case, Load, goals, stock_load
from proof.bench.wire.ours import Play, WireTraffic, flowing, kind_of, opening, waiting
from proof.bench.wire.stock import Sent

# 4 B are magic and version; then come the array, its tag, a small seq, two empty lists, a small session.
EMPTY_RENEW_B = 4 + 6
# The body is the array, its tag, a small seq, an empty list, False.
ACK_B = 4 + 5
PROBE_B = 4 + 2
TOKEN_B = 9
TERM_S, INTERVAL_S = 30, 5


def test_leases_that_wait_cost_a_renewal_and_its_answer_an_interval() -> None:
    """R21: waiting leases, however many, cost one renewal and its answer an interval: no message names them."""
    for leases in (1, 50):
        traffic = waiting(leases, terms=1)
        renewals = traffic.messages_of["Renew"]
        assert renewals == traffic.messages_of["Ack"] == TERM_S / INTERVAL_S
        assert traffic.bytes_of["Renew"] == renewals * EMPTY_RENEW_B
        assert traffic.bytes_of["Ack"] == renewals * ACK_B
        assert traffic.bytes_of["Probe"] == traffic.messages_of["Probe"] * PROBE_B
        assert set(traffic.messages_of) == {"Renew", "Ack", "Probe"}
        assert traffic.bytes == sum(traffic.bytes_of.values())


def test_a_lease_costs_a_claim_and_a_drop_when_it_is_alone() -> None:
    """A term has ten leases, three seconds apart, each read after one second: no two changes share a message."""
    traffic = flowing(10, life_s=1.0, terms=1)
    assert traffic.messages_of["Renew with changes"] == 20
    assert traffic.bytes_of["Renew with changes"] == 20 * (EMPTY_RENEW_B + TOKEN_B)
    assert traffic.messages_of["Ack"] == traffic.messages_of["Renew"] + 20
    assert traffic.messages_of["Gone"] == 0


def test_changes_that_come_together_share_a_message() -> None:
    play = Play()
    play.grant()
    for _ in range(500):
        play.turns()
    play.begin_counting()
    for _ in range(100):
        play.grant()
    for _ in range(100):
        play.turns()
    assert play.traffic.messages_of["Renew with changes"] == 1
    # The head of a list of 16 and more is two bytes longer.
    assert play.traffic.bytes_of["Renew with changes"] == EMPTY_RENEW_B + 2 + 100 * TOKEN_B


def test_opening_a_pair_is_one_question_and_one_answer() -> None:
    assert opening().messages_of == {"Hello": 1, "Welcome": 1}


def test_kinds_tell_renewals_from_changes() -> None:
    assert kind_of(encode(Renew(1, [], []))) == "Renew"
    assert kind_of(encode(Renew(1, [5], []))) == "Renew with changes"
    assert kind_of(encode(Renew(1, [], [5]))) == "Renew with changes"
    assert kind_of(encode(Ack(1, []))) == "Ack"
    traffic = WireTraffic()
    traffic.count(encode(Probe()))
    traffic.count(encode(Ack(1, [])))
    assert (traffic.messages, traffic.bytes) == (2, PROBE_B + ACK_B)


def test_a_lease_that_is_lost_meanwhile_spoils_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark fails where leases are lost: traffic that does not keep them would be too cheap."""
    monkeypatch.setattr("proof.bench.core.leased.HandledAgent.turn", lambda *_: None)
    with pytest.raises(AssertionError, match="0 leases at the producer, 3 wanted"):
        waiting(3, terms=1)


def test_stock_is_so_many_beats_and_one_notice_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock's bytes for a lease, with ten waiting and five read a term: (6 x (3 + 10 x 33 - 1) + 5 x 34) / 10."""
    monkeypatch.setattr(wire, "request_ids", lambda count: ["cmpl"] * count)
    monkeypatch.setattr(wire_stock, "beats_per_term", lambda: 6)
    monkeypatch.setattr(wire_stock, "heartbeat", lambda ids, *_: Sent(1, 3 + len(ids) * 33 - 1))
    monkeypatch.setattr(wire_stock, "notices", lambda *_: Sent(1, 34))
    load = stock_load(10, waiting=10, read=5)
    assert load.bytes == pytest.approx((6 * 332 + 5 * 34) / 10)
    assert load.messages == pytest.approx((6 + 5) / 10)
    assert stock_load(10, waiting=0, read=10) == Load(34, 1)
    assert load.with_header(85) == pytest.approx(load.bytes + 85 * load.messages)


@pytest.mark.parametrize(("renewals", "everything", "met"), [(1.9, 70, [True, True]), (2.1, 80, [False, False])])
def test_goals_are_shares_of_stocks_bytes(renewals: float, everything: float, met: list[bool]) -> None:
    waits = Case("wait", Load(renewals, 0), Load(200, 0))
    flows = Case("flow", Load(everything, 0), Load(230, 0))
    assert [goal.met for goal in goals(waits, flows)] == met


def test_the_kernel_says_what_a_connection_has_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        before = wire_header.bytes_sent()
        client.sendall(b"x" * 1000)
        assert wire_header.bytes_sent() - before == 1000


def test_a_header_that_cannot_be_measured_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert wire_header.measure() is None


def test_full_counts_more_terms_than_short() -> None:
    assert wire.TERMS[Effort.FULL] > wire.TERMS[Effort.SHORT]
