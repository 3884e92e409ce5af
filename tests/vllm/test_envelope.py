"""A lease card as vLLM's side channel carries it (R6). `proof/hostile` has anything else that may come there."""

import msgspec
import pytest

from kvlease.errors import BadMessage
from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.vllm.envelope import CARD_MARK, CARD_RANK, MAX_ENTRY_BYTES, card_in

CARD = LeaseCard([1], 7, b"address", [WorkerFence(0, 0, 4096, 64)])


def entry(mark: str, content: bytes) -> bytes:
    return msgspec.msgpack.encode({"compatibility_hash": mark, "agent_metadata_bytes": content})


def test_no_worker_has_the_rank_of_the_card() -> None:
    assert min(CARD_RANK) < 0


def test_a_card_comes_out_as_it_was_laid_in() -> None:
    assert card_in(entry(CARD_MARK, CARD.encode())) == CARD


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (entry("0123abcd", CARD.encode()), "something else is served"),
        (entry(CARD_MARK, b"\x91" * 5000), "card"),
        (CARD.encode(), "card"),
        (bytes(MAX_ENTRY_BYTES + 1), f"at most {MAX_ENTRY_BYTES} are allowed"),
    ],
)
def test_what_a_stock_engine_serves_is_no_card(served: bytes, said: str) -> None:
    with pytest.raises(BadMessage, match=said) as error:
        card_in(served)
    assert error.value.kind == "card"
