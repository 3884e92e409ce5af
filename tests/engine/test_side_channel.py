"""Lease cards over vLLM's handshake side channel, and whatever else may answer there (R6, R14)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from kvlease.errors import CardUnavailable
from kvlease.protocol import Endpoint, LeaseCard, WorkerFence
from kvlease.protocol.card import CARD_MARK, MAX_ENTRY_BYTES

pytestmark = pytest.mark.engine

CARD = LeaseCard([1], 7, b"address", [WorkerFence(0, 0, 4096, 16)])


@contextmanager
def answering(*parts: bytes) -> Iterator[Endpoint]:
    """A listener that answers whatever it is asked with these parts."""
    import zmq

    context = zmq.Context()
    listener = context.socket(zmq.ROUTER)
    port = listener.bind_to_random_port("tcp://127.0.0.1")

    def answer() -> None:
        identity, _, _ = listener.recv_multipart()
        listener.send_multipart([identity, b"", *parts])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield "127.0.0.1", port
    finally:
        thread.join(10)
        context.destroy(linger=0)


def test_a_card_that_is_served_as_vllm_serves_its_own_comes_back_as_it_was() -> None:
    from kvlease.vllm.side_channel import fetch_card, wrap_card

    with answering(msgspec.msgpack.encode(wrap_card(CARD)), msgspec.msgpack.encode(1.0)) as endpoint:
        assert fetch_card(endpoint) == CARD


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xc1",
        b"\x81\xa1x" + b"\x91" * 5000,
        msgspec.msgpack.encode({"compatibility_hash": "stock", "agent_metadata_bytes": b"x"}),
        msgspec.msgpack.encode({"compatibility_hash": CARD_MARK, "agent_metadata_bytes": b"\x91" * 5000}),
        msgspec.msgpack.encode({"compatibility_hash": CARD_MARK, "agent_metadata_bytes": "text"}),
        b"x" * (MAX_ENTRY_BYTES + 1),
    ],
    ids=["empty", "no msgpack", "deep", "stock", "deep card", "text", "large"],
)
def test_r14_what_is_no_card_is_an_unavailable_one(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never another error: in a worker, that would end the engine."""
    from kvlease.vllm import side_channel

    monkeypatch.setattr(side_channel, "FETCH_TIMEOUT_MS", 500)
    with answering(answer) as endpoint, pytest.raises(CardUnavailable):
        side_channel.fetch_card(endpoint)
