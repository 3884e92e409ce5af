"""The network of namespaces, with the kernel's own means."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from proof.realengines.network import NAMESPACES, Network, NetworkUnavailable

pytestmark = pytest.mark.engine

PACKETS = 400
RECEIVE = """
import socket, sys
inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inbox.bind((sys.argv[1], 9000))
print("listening", flush=True)
inbox.settimeout(20)
count = 0
while inbox.recv(16) != b"end":
    count += 1
print(count)
"""
SEND = """
import socket, sys, time
outbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[2])):
    outbox.sendto(b"packet", (sys.argv[1], 9000))
    time.sleep(0.0005)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        with Network(["p", "d1"]) as made:
            yield made
    except NetworkUnavailable as error:
        pytest.skip(str(error))


def arrived(network: Network, sender: str, receiver: str) -> int:
    """The number of packets that arrived, of `PACKETS` sent."""
    host = network.place(receiver).host
    receiving = subprocess.Popen(
        [*network.place(receiver).launcher, sys.executable, "-c", RECEIVE, host], stdout=subprocess.PIPE, text=True
    )
    try:
        assert receiving.stdout is not None
        receiving.stdout.readline()
        send = [*network.place(sender).launcher, sys.executable, "-c", SEND, host, str(PACKETS)]
        subprocess.run(send, check=True)
        # The last packet comes from the receiver's own side, so that it arrives in any case.
        end = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'end', ('{host}', 9000))"
        subprocess.run([*network.place(receiver).launcher, sys.executable, "-c", end], check=True)
        return int(receiving.stdout.readline())
    finally:
        receiving.kill()
        receiving.wait()


def test_packets_are_lost_as_told_and_pass_again_when_it_is_over(network: Network) -> None:
    assert arrived(network, "p", "d1") == PACKETS
    network.lose("d1", 0.5)
    assert 0.3 * PACKETS < arrived(network, "p", "d1") < 0.7 * PACKETS
    network.lose("d1", 1.0, ["to"])
    assert arrived(network, "p", "d1") == 0
    network.heal("d1")
    assert arrived(network, "p", "d1") == PACKETS


def test_a_cut_in_one_direction_is_none_in_the_other(network: Network) -> None:
    # Both ends have to know each other's address before the cut, which would lose the question for it as well.
    assert arrived(network, "d1", "p") == PACKETS
    assert arrived(network, "p", "d1") == PACKETS
    network.lose("d1", 1.0, ["from"])
    assert arrived(network, "p", "d1") == PACKETS
    assert arrived(network, "d1", "p") == 0


def test_a_slow_link_loses_what_waits_for_too_long(network: Network) -> None:
    """A packet takes 0.4 s at 1 kbit/s: those that come after the first burst would wait for minutes."""
    network.slow("d1", 1)
    assert arrived(network, "p", "d1") < PACKETS
    network.heal("d1")
    assert arrived(network, "p", "d1") == PACKETS


def test_nothing_of_it_is_left(network: Network) -> None:
    assert all((NAMESPACES / name).exists() for name in network.namespaces)
    network.remove()
    assert not any((NAMESPACES / name).exists() for name in network.namespaces)
