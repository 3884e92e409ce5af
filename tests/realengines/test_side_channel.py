"""Lease cards over vLLM's handshake side channel, and anything else that may answer there (R6, R14)."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import msgspec
import pytest

from kvlease.errors import CardUnavailable
from kvlease.protocol import Endpoint, LeaseCard, WorkerFence
from kvlease.vllm.envelope import CARD_MARK, CARD_RANK, MAX_ENTRY_BYTES

pytestmark = [pytest.mark.engine, pytest.mark.essential]

CARD = LeaseCard([1], 7, b"address", [WorkerFence(0, 0, 4096, 16)])


@contextmanager
def answering(*parts: bytes) -> Iterator[Endpoint]:
    """A listener that answers any question with these parts."""
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
    """R14: an answer that is no card raises `CardUnavailable`; another error in a worker would end the engine."""
    from kvlease.vllm import side_channel

    monkeypatch.setattr(side_channel, "FETCH_TIMEOUT_MS", 500)
    with answering(answer) as endpoint, pytest.raises(CardUnavailable):
        side_channel.fetch_card(endpoint)


@contextmanager
def listening(counts: "Counter[str]") -> Iterator[Endpoint]:
    """A producer's handshake listener, with the entries of one rank and of the card."""
    from kvlease.up.ports import free_port
    from kvlease.vllm.listener import HandshakeListener
    from kvlease.vllm.side_channel import wrap_card

    entries = {(0, 0): b"stock", CARD_RANK: msgspec.msgpack.encode(wrap_card(CARD))}
    ready, stop, port = threading.Event(), threading.Event(), free_port("127.0.0.1")
    listener = HandshakeListener(entries, counts)
    thread = threading.Thread(target=listener.serve, args=("127.0.0.1", port, ready, stop))
    thread.start()
    try:
        assert ready.wait(10)
        yield "127.0.0.1", port
    finally:
        stop.set()
        thread.join(10)


def ask(endpoint: Endpoint, *parts: bytes) -> list[bytes]:
    """Sends these parts as they are, and returns the listener's answer; nothing where it gives none."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, 300)
        socket.connect("tcp://{}:{}".format(*endpoint))
        socket.send_multipart(parts)
        try:
            answer: list[bytes] = socket.recv_multipart()
        except zmq.Again:
            return []
        return answer


@pytest.mark.parametrize(
    "question",
    [
        (b"", msgspec.msgpack.encode((b"get_meta_msg", 1, 0))),
        (b"", msgspec.msgpack.encode((b"get_meta_msg", [], {}))),
        (b"", msgspec.msgpack.encode((b"another", 0, 0))),
        (b"", msgspec.msgpack.encode((b"get_meta_msg", 0))),
        (b"", b""),
        (b"", b"\xc1"),
        (b"", b"\x91" * 500),
        (b"",),
        (b"x",),
        (b"", b"a", b"b", b"c"),
        (b"", b"x" * 100_000),
    ],
)
def test_r14_the_listener_outlives_any_question(question: tuple[bytes, ...]) -> None:
    """R14: the first of these questions ends stock's listener, and so all handshakes with the engine and its card."""
    from kvlease.vllm.side_channel import fetch_card

    counts: Counter[str] = Counter()
    with listening(counts) as endpoint:
        answer = ask(endpoint, *question)
        assert [part for part in answer[:2] if part] == []
        assert fetch_card(endpoint) == CARD
        assert ask(endpoint, b"", msgspec.msgpack.encode((b"get_meta_msg", 0, 0)))[:2] == [b"", b"stock"]
    assert counts["refused.handshake"] == (0 if len(question[-1]) > 1024 else 1), "what is too long is not even heard"


def test_r14_a_worker_hears_notices_only() -> None:
    """R14: anybody can send a worker's NIXL agent any bytes; a stock worker ends at those that it cannot read."""
    from kvlease.vllm.notices import arrived, take_notices

    class Agent:
        def get_new_notifs(self) -> dict[str, list[bytes]]:
            return {"a": [b"cmpl-1:1", b"junk", b"\xff:1"], "b": [b"HB:cmpl-2"]}

    worker = SimpleNamespace(nixl_wrapper=(agent := Agent()))
    notices, refused = take_notices(agent)
    assert notices == {"a": [b"cmpl-1:1"], "b": [b"HB:cmpl-2"]}
    assert refused == 2
    with arrived(worker, notices):
        assert worker.nixl_wrapper.get_new_notifs() == notices
    assert worker.nixl_wrapper is agent
