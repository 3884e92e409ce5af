"""Lease cards over vLLM's handshake side channel, as one more entry of the listener that vLLM has (R6)."""

import msgspec
import zmq

from kvlease.agent.fetching import ThreadedCards
from kvlease.errors import BadMessage, CardUnavailable
from kvlease.protocol import Endpoint, LeaseCard
from kvlease.vllm.compat import GET_META_MSG, NixlHandshakePayload, make_zmq_path
from kvlease.vllm.envelope import CARD_MARK, CARD_RANK, MAX_ENTRY_BYTES, card_in

FETCH_TIMEOUT_MS = 2000


def wrap_card(card: LeaseCard) -> NixlHandshakePayload:
    """Returns the card as an entry of the handshake listener, which serves nothing but such payloads."""
    return NixlHandshakePayload(compatibility_hash=CARD_MARK, agent_metadata_bytes=card.encode())


def fetch_card(endpoint: Endpoint) -> LeaseCard:
    """Asks the listener at `endpoint` for the lease card; waits up to `FETCH_TIMEOUT_MS`. Raises `CardUnavailable`.

    It is only for endpoints that come with a lease reference: a stock listener ends at a rank that it does not know.
    """
    try:
        return card_in(_ask(endpoint, msgspec.msgpack.encode((GET_META_MSG, *CARD_RANK))))
    except (zmq.ZMQError, BadMessage, OSError, ValueError) as e:
        # ValueError: the host, which comes from a router or a client, is no host name.
        raise CardUnavailable(f"no lease card from {endpoint[0]}:{endpoint[1]}: {e}") from e


def _ask(endpoint: Endpoint, question: bytes) -> bytes:
    """Returns the first part of the answer. vLLM's own function is not used: it has no limit for an answer's size."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, FETCH_TIMEOUT_MS)
        socket.setsockopt(zmq.SNDTIMEO, FETCH_TIMEOUT_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_ENTRY_BYTES)
        socket.setsockopt(zmq.IPV6, ":" in endpoint[0])
        # The options apply only to connections that are made after them.
        socket.connect(make_zmq_path("tcp", *endpoint))
        socket.send(question)
        answer: bytes = socket.recv()
        return answer


class SideChannelCards(ThreadedCards):
    """The lease cards that the listeners of other engines serve."""

    def __init__(self) -> None:
        super().__init__(fetch_card)
