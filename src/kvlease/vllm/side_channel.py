"""Lease cards over vLLM's handshake side channel: one more entry of the listener that is there anyway (R6)."""

import logging
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import zmq

from kvlease.errors import BadMessage, CardUnavailable
from kvlease.logs import bounded_logger
from kvlease.protocol import CARD_RANK, Endpoint, LeaseCard
from kvlease.vllm.compat import GET_META_MSG, NixlHandshakePayload, make_zmq_path, zmq_ctx

logger = logging.getLogger(__name__)
bounded = bounded_logger(__name__)

FETCH_TIMEOUT_MS = 2000
FETCHERS = 4
"""Producers that can be asked at once; a dead one occupies a fetcher for the timeout."""
CARD_MARK = "kvlease-card"
"""Stands where a stock entry has its compatibility hash."""


def wrap_card(card: LeaseCard) -> NixlHandshakePayload:
    """The card as an entry of the handshake listener, which serves nothing but such payloads."""
    return NixlHandshakePayload(compatibility_hash=CARD_MARK, agent_metadata_bytes=card.encode())


def fetch_card(endpoint: Endpoint) -> LeaseCard:
    """Ask the listener at `endpoint` for the lease card; waits up to `FETCH_TIMEOUT_MS`. Raises `CardUnavailable`.

    Only for endpoints that come with a lease reference: a stock listener does not survive a rank that it does not know.
    """
    try:
        with zmq_ctx(zmq.REQ, make_zmq_path("tcp", *endpoint)) as socket:
            socket.setsockopt(zmq.RCVTIMEO, FETCH_TIMEOUT_MS)
            socket.setsockopt(zmq.SNDTIMEO, FETCH_TIMEOUT_MS)
            socket.send(msgspec.msgpack.encode((GET_META_MSG, *CARD_RANK)))
            reply = socket.recv_multipart()[0]
        payload = msgspec.msgpack.decode(reply, type=NixlHandshakePayload)
        if payload.compatibility_hash != CARD_MARK:
            raise CardUnavailable(f"{endpoint[0]}:{endpoint[1]} serves something else where a lease card should be")
        return LeaseCard.decode(payload.agent_metadata_bytes)
    except (zmq.ZMQError, msgspec.DecodeError, BadMessage, OSError, ValueError) as e:
        # ValueError: a host that is none. It comes from a router, or from a client.
        raise CardUnavailable(f"no lease card from {endpoint[0]}:{endpoint[1]}: {e}") from e


class SideChannelCards:
    """A `CardSource` that fetches in threads of its own, so that renewals do not wait for somebody else's silence."""

    def __init__(self) -> None:
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="kvlease-card")
        self._answers: deque[tuple[Endpoint, LeaseCard | None]] = deque()

    def ask(self, endpoint: Endpoint) -> None:
        self._fetchers.submit(fetch_card, endpoint).add_done_callback(lambda fetched: self._answer(endpoint, fetched))

    def _answer(self, endpoint: Endpoint, fetched: "Future[LeaseCard]") -> None:
        """Every question gets its answer, also where a bug is what came of it."""
        if fetched.cancelled():
            return
        error = fetched.exception()
        if isinstance(error, CardUnavailable):
            bounded.warning("kvlease: %s", error)
        elif error is not None:
            logger.error("kvlease: fetching the lease card of %s:%d failed", *endpoint, exc_info=error)
        self._answers.append((endpoint, fetched.result() if error is None else None))

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def close(self) -> None:
        self._fetchers.shutdown(wait=False, cancel_futures=True)
