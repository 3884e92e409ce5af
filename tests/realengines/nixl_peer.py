"""A process that has a `NixlTransport`, or a data-plane agent and a fence table, and takes orders over pipes.

It makes progress all the time, as a lease agent does, and executes one command a line: a JSON array of a method's name
and its arguments, bytes as hex. It answers with one JSON line: the result, or {"error": class, "message": text}.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO


class PeerProcess:
    """The parent's end of the pipes. `environment` is added to the child's, such as {"UCX_TLS": "tcp"}."""

    def __init__(self, incarnation: int, role: str = "transport", environment: dict[str, str] | None = None) -> None:
        self.incarnation = incarnation
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__)), role, str(incarnation)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NIXL_LOG_LEVEL": "FATAL", **(environment or {})},
        )
        ready = self.answer()
        self.address = bytes.fromhex(ready[0])
        self.fence_base = int(ready[1])

    def order(self, *command: Any) -> None:
        """Sends a command without waiting for its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()

    def answer(self) -> Any:
        """Waits for the next answer, and returns it."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, f"the peer process ended with {self._child.wait()}"
        return json.loads(line)

    def call(self, *command: Any) -> Any:
        self.order(*command)
        return self.answer()

    def stop(self) -> None:
        """Stops the child with SIGSTOP, and waits until it stands still."""
        self._child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._child.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kills the child with SIGKILL, and waits until it is gone. Does nothing if it is already."""
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


class TransportPeer:
    """The child's side in the role `transport`."""

    def __init__(self, incarnation: int) -> None:
        from kvlease.agent.nixl import NixlTransport

        self._transport = NixlTransport(incarnation)
        self._received: list[tuple[int, str]] = []
        self.ready = (self._transport.address.hex(), 0)

    def progress(self) -> None:
        self._received += [(sender, payload.hex()) for sender, payload in self._transport.receive()]

    def connect(self, peer: int, address: str) -> None:
        self._transport.connect(peer, bytes.fromhex(address))

    def send(self, peer: int, payload: str) -> None:
        self._transport.send(peer, bytes.fromhex(payload))

    def disconnect(self, peer: int) -> None:
        self._transport.disconnect(peer)

    def received(self) -> list[tuple[int, str]]:
        """The messages that have arrived since the last call: (sender's incarnation, payload in hex)."""
        received, self._received = self._received, []
        return received

    def count(self) -> int:
        """The number of messages that wait for `received`."""
        return len(self._received)


class FencePeer:
    """The child's side in the role `fence`: a worker of P, whose data-plane agent is as vLLM's but has no threads."""

    def __init__(self, incarnation: int) -> None:
        from nixl._api import nixl_agent, nixl_agent_config

        from kvlease.fence import FenceTable, RegisteredWords

        self._agent = nixl_agent(f"worker-{incarnation}", nixl_agent_config(enable_prog_thread=False))
        self._table = FenceTable(RegisteredWords(self._agent, 1024))
        self.ready = (self._agent.get_agent_metadata().hex(), self._table.address.base)

    def progress(self) -> None:
        self._agent.get_new_notifs()

    def arm(self, slot: int, token: int) -> None:
        self._table.arm(slot, token)

    def clear(self, slot: int) -> None:
        self._table.clear(slot)


def _execute(peer: TransportPeer | FencePeer, command: list[Any]) -> Any:
    try:
        return getattr(peer, command[0])(*command[1:])
    except Exception as error:  # noqa: BLE001 - the parent decides what it means
        return {"error": type(error).__name__, "message": str(error)}


def _serve(role: str, incarnation: int, answers: TextIO) -> None:
    peer = TransportPeer(incarnation) if role == "transport" else FencePeer(incarnation)
    print(json.dumps(peer.ready), file=answers, flush=True)
    pending = b""
    while True:
        peer.progress()
        if not select.select([0], [], [], 0.0005)[0]:
            continue
        arrived = os.read(0, 1 << 16)
        if not arrived:
            return
        *lines, pending = (pending + arrived).split(b"\n")
        for line in lines:
            print(json.dumps(_execute(peer, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # NIXL and UCX write to stdout, too, so answers get a descriptor of their own.
    own_stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _serve(sys.argv[1], int(sys.argv[2]), own_stdout)
