"""The in-process network behaves as the `Transport` contract says; tests of everything above it build on that."""

import threading

import pytest

from kvlease.agent.transport import Transport
from kvlease.errors import PeerGone
from kvlease.testing.network import Fate, MemoryNetwork, MemoryTransport

P, D = 0xA, 0xD


def connected_pair(network: MemoryNetwork) -> tuple[MemoryTransport, MemoryTransport]:
    p, d = MemoryTransport(network, P), MemoryTransport(network, D)
    p.connect(D, d.address)
    d.connect(P, p.address)
    return p, d


def test_it_is_a_transport() -> None:
    transport: Transport = MemoryTransport(MemoryNetwork(), P)
    assert transport.receive() == []


def test_messages_pass_in_both_directions_in_order() -> None:
    p, d = connected_pair(MemoryNetwork())
    d.send(P, b"1")
    d.send(P, b"2")
    p.send(D, b"3")
    assert p.receive() == [(D, b"1"), (D, b"2")]
    assert p.receive() == []
    assert d.receive() == [(P, b"3")]


def test_a_peer_that_we_have_not_connected_to_is_heard_but_cannot_be_sent_to() -> None:
    network = MemoryNetwork()
    p, d = MemoryTransport(network, P), MemoryTransport(network, D)
    d.connect(P, p.address)
    d.send(P, b"hello")
    assert p.receive() == [(D, b"hello")]
    with pytest.raises(PeerGone, match="not connected"):
        p.send(D, b"welcome")


def test_connecting_twice_is_a_no_op() -> None:
    p, d = connected_pair(MemoryNetwork())
    d.connect(P, p.address)
    d.send(P, b"1")
    assert p.receive() == [(D, b"1")]


@pytest.mark.parametrize("address", [b"", b"garbage!", (P + 1).to_bytes(8, "little")])
def test_an_address_that_is_not_the_peers_is_refused(address: bytes) -> None:
    network = MemoryNetwork()
    MemoryTransport(network, P)
    MemoryTransport(network, P + 1)
    d = MemoryTransport(network, D)
    with pytest.raises(PeerGone):
        d.connect(P, address)
    with pytest.raises(PeerGone):
        d.send(P, b"")


def test_the_killed_stay_gone_and_what_they_had_not_received_is_lost() -> None:
    network = MemoryNetwork()
    p, d = connected_pair(network)
    p.send(D, b"sent before death")
    d.send(P, b"never received")
    network.kill(P)
    for _ in range(2):
        with pytest.raises(PeerGone):
            d.send(P, b"")
    with pytest.raises(PeerGone, match="disconnect it before"):
        d.connect(P, p.address)
    d.disconnect(P)
    with pytest.raises(PeerGone, match="not on this network"):
        d.connect(P, p.address)
    assert d.receive() == [(P, b"sent before death")]
    assert p.receive() == []
    with pytest.raises(PeerGone):
        p.send(D, b"from the dead")


def test_a_found_death_outlasts_a_return_until_disconnected() -> None:
    network = MemoryNetwork()
    p, d = connected_pair(network)
    network.kill(P)
    with pytest.raises(PeerGone):
        d.send(P, b"")
    back = MemoryTransport(network, P)
    with pytest.raises(PeerGone):
        d.send(P, b"")
    d.disconnect(P)
    d.connect(P, back.address)
    d.send(P, b"again")
    assert back.receive() == [(D, b"again")]
    assert p.address == back.address


def test_disconnecting_forgets_the_peer_and_only_on_this_side() -> None:
    p, d = connected_pair(MemoryNetwork())
    d.disconnect(P)
    d.disconnect(P)
    with pytest.raises(PeerGone):
        d.send(P, b"")
    p.send(D, b"still heard")
    assert d.receive() == [(P, b"still heard")]


def test_closing_looks_like_a_death_and_frees_the_incarnation() -> None:
    network = MemoryNetwork()
    p, d = connected_pair(network)
    with pytest.raises(ValueError, match="already"):
        MemoryTransport(network, P)
    p.close()
    with pytest.raises(PeerGone):
        d.send(P, b"")
    MemoryTransport(network, P)


def test_faults_drop_duplicate_and_hold() -> None:
    fates = iter([Fate.HOLD, Fate.DROP, Fate.DUPLICATE, Fate.DELIVER])
    seen: list[tuple[int, int, bytes]] = []

    def fault(sender: int, receiver: int, payload: bytes) -> Fate:
        seen.append((sender, receiver, payload))
        return next(fates)

    network = MemoryNetwork(fault)
    p, d = connected_pair(network)
    for payload in (b"held", b"dropped", b"twice", b"once"):
        d.send(P, payload)
    assert p.receive() == [(D, b"twice"), (D, b"twice"), (D, b"once")]
    assert network.release() == 1
    assert network.release() == 0
    assert p.receive() == [(D, b"held")]
    assert seen[0] == (D, P, b"held")


def test_what_is_held_for_the_killed_is_lost() -> None:
    network = MemoryNetwork(lambda *_: Fate.HOLD)
    _, d = connected_pair(network)
    d.send(P, b"held")
    network.kill(P)
    assert network.release() == 0


def test_threads_lose_nothing() -> None:
    network = MemoryNetwork()
    p = MemoryTransport(network, P)
    senders, each = 4, 500

    def send_all(incarnation: int) -> None:
        transport = MemoryTransport(network, incarnation)
        transport.connect(P, p.address)
        for n in range(each):
            transport.send(P, n.to_bytes(4, "little"))

    threads = [threading.Thread(target=send_all, args=(100 + i,)) for i in range(senders)]
    for thread in threads:
        thread.start()
    received: list[tuple[int, bytes]] = []
    while any(thread.is_alive() for thread in threads):
        received += p.receive()
    received += p.receive()
    for i in range(senders):
        own = [int.from_bytes(payload, "little") for sender, payload in received if sender == 100 + i]
        assert own == list(range(each))
