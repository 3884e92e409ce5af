"""vLLM's handshake listener in a form that survives questions that it does not understand (R14).

The stock listener ends at the first question that it cannot read or answer, such as one for a rank that does not exist:
from then on nobody can shake hands with the engine, nor get its lease card. Clients choose the ranks in questions.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping

import msgspec
import zmq

from kvlease.engine.known_fences import Rank
from kvlease.logs import bounded_logger
from kvlease.vllm.compat import GET_META_MSG, make_zmq_path

bounded = bounded_logger(__name__)

POLL_MS = 1000
MAX_QUESTION_BYTES = 1024
NOTHING = b""
"""The answer to a question that has none: it decodes to nothing, so nobody waits for a timeout."""


class HandshakeListener:
    """Serves `entries`, by (pp_rank, tp_rank). What is no question, or has no answer, counts as `refused.handshake`."""

    def __init__(self, entries: Mapping[Rank, bytes], counts: "Counter[str]") -> None:
        self._entries = entries
        self._counts = counts

    def serve(self, host: str, port: int, ready: threading.Event, stop: threading.Event) -> None:
        """Serves until `stop` is set; sets `ready` once it listens."""
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, POLL_MS)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_QUESTION_BYTES)
            socket.setsockopt(zmq.IPV6, ":" in host)
            socket.bind(make_zmq_path("tcp", host, port))
            ready.set()
            while not stop.is_set():
                try:
                    identity, *parts = socket.recv_multipart()
                except zmq.Again:
                    continue
                if len(parts) != 2 or parts[0]:
                    self._refuse("something that is no question")
                    continue
                entry = self._answer(parts[1])
                # vLLM estimates the difference between two engines' clocks from it.
                clock = msgspec.msgpack.encode(time.perf_counter())
                socket.send_multipart((identity, b"", entry, clock))

    def _answer(self, question: bytes) -> bytes:
        try:
            what, pp_rank, tp_rank = msgspec.msgpack.decode(question, type=tuple[bytes, int, int])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            self._refuse(f"a question that cannot be read: {e}")
            return NOTHING
        entry = self._entries.get((pp_rank, tp_rank))
        if what != GET_META_MSG or entry is None:
            self._refuse(f"a question about rank ({pp_rank}, {tp_rank}), which is not here")
            return NOTHING
        return entry

    def _refuse(self, what: str) -> None:
        self._counts["refused.handshake"] += 1
        bounded.warning("kvlease: the handshake listener was sent %s", what)
