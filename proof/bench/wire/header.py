"""The bytes that NIXL and UCX add to one notification over TCP, by asking the kernel how many a connection has sent.

This is a program of its own, since UCX looks at its environment once. It prints the bytes for kvlease's agents and for
vLLM's, whose names have 24 and 36 characters and are part of what is added.
"""

import os
import socket
import struct
import subprocess
import sys
import uuid
from typing import Any

import psutil

from proof import ROOT

_MESSAGES = 100
_PAYLOAD = b"x" * 100
_TURNS = 1_000_000
_TCP_INFO_BYTES_SENT = 200
"""The offset of tcpi_bytes_sent (u64) in the kernel's struct tcp_info, from include/uapi/linux/tcp.h."""
_WITHIN_S = 60.0


def measure() -> tuple[float, float] | None:
    """The bytes added to a notification of kvlease, and of vLLM; None where they cannot be measured."""
    environment = {**os.environ, "UCX_TLS": "tcp", "UCX_NET_DEVICES": "lo"}
    command = [sys.executable, "-m", "proof.bench.wire.header"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_WITHIN_S, check=True
        )
        ours, stock = map(float, done.stdout.split()[-2:])
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return ours, stock


def added(name_length: int) -> float:
    """The bytes added to a notification whose sender has a name of this length."""
    from nixl._api import nixl_agent, nixl_agent_config

    config = nixl_agent_config(enable_prog_thread=False)
    sender, receiver = (nixl_agent(_name(name_length), config) for _ in range(2))
    peer = sender.add_remote_agent(receiver.get_agent_metadata())
    peer = peer.decode() if isinstance(peer, bytes) else peer
    _send(sender, receiver, peer, 1)
    before = bytes_sent()
    _send(sender, receiver, peer, _MESSAGES)
    return (bytes_sent() - before) / _MESSAGES - len(_PAYLOAD)


def _name(length: int) -> str:
    return str(uuid.uuid4())[:length]


def _send(sender: Any, receiver: Any, peer: str, count: int) -> None:
    for _ in range(count):
        sender.send_notif(peer, _PAYLOAD)
    arrived = 0
    for _ in range(_TURNS):
        arrived += sum(map(len, receiver.get_new_notifs().values()))
        sender.get_new_notifs()
        if arrived == count:
            return
    raise TimeoutError(f"{arrived} of {count} notifications arrived")


def bytes_sent() -> int:
    """The bytes that all TCP connections of this process have sent."""
    total = 0
    for connection in psutil.Process().net_connections("tcp"):
        with socket.socket(fileno=os.dup(connection.fd)) as same:
            info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        total += struct.unpack_from("=Q", info, _TCP_INFO_BYTES_SENT)[0]
    return total


if __name__ == "__main__":
    print(added(24), added(36))
