"""An address from a hostile peer raises `PeerGone` and nothing else, and harms nobody else (R14)."""

import random
from collections.abc import Iterator

import pytest

from kvlease.agent.nixl import NixlTransport, agent_name
from kvlease.errors import PeerGone
from tests.realengines.nixl_peer import PeerProcess
from tests.realengines.over_nixl import OTHER, PEER
from tests.realengines.test_nixl_transport import both_directions_work, connect_both

pytestmark = pytest.mark.engine


@pytest.fixture
def hostile() -> Iterator[PeerProcess]:
    with PeerProcess(OTHER) as peer:
        yield peer


def renamed(peer: PeerProcess, name: bytes) -> bytes:
    """The peer's address under another name, which has to have the same length."""
    own = agent_name(peer.incarnation).encode()
    assert len(name) == len(own)
    return peer.address.replace(own, name)


def test_nobody_gets_an_address_of_his_own_under_anothers_name(
    transport: NixlTransport, peer: PeerProcess, hostile: PeerProcess
) -> None:
    """R14: NIXL says NotAllowed when that name is known already, an error that once ended the lease agent."""
    connect_both(transport, peer)
    forged = renamed(hostile, agent_name(PEER).encode())
    with pytest.raises(PeerGone, match="is not its own"):
        transport.connect(OTHER, forged)
    # A peer that is connected stays connected, whatever address comes under its name.
    transport.connect(PEER, forged)
    both_directions_work(transport, peer)


def test_a_name_that_is_no_text_leaves_nothing_behind(transport: NixlTransport, hostile: PeerProcess) -> None:
    for name in (b"kvlease-\xff00000000000000f", b"\xff" * 24, b"worker-00000000000000000"):
        with pytest.raises(PeerGone):
            transport.connect(OTHER, renamed(hostile, name))
        assert not transport.remembers(name)


def test_a_name_inside_the_name_leaves_nothing_behind(transport: NixlTransport, peer: PeerProcess) -> None:
    """R14: the right name stands somewhere in the address, but NIXL takes another one for the agent's."""
    own = agent_name(PEER).encode()
    longer = peer.address.replace((24).to_bytes(8, "little") + own, (25).to_bytes(8, "little") + b"\xff" + own)
    assert longer != peer.address
    with pytest.raises(PeerGone, match="is that of"):
        transport.connect(PEER, longer)
    assert not transport.remembers(b"\xff" + own)
    connect_both(transport, peer)
    both_directions_work(transport, peer)


def test_damaged_addresses_are_refused_and_kill_nobody(hostile: PeerProcess) -> None:
    """R14: no damaged address ends a process of its own, though NIXL reads addresses in native code."""
    chance = random.Random(1)
    with PeerProcess(PEER) as victim:
        for _ in range(150):
            damaged = bytearray(hostile.address)
            for _ in range(chance.choice((1, 1, 2, 8))):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            if chance.random() < 0.2:
                del damaged[chance.randrange(len(damaged)) :]
            outcome = victim.call("connect", OTHER, bytes(damaged).hex())
            assert outcome is None or outcome["error"] == "PeerGone", outcome
            victim.call("disconnect", OTHER)
        assert victim.call("count") == 0
