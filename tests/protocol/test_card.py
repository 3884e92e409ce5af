"""The lease card, which comes from a side channel that others serve, too (R6, R9)."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import BadMessage
from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.protocol.card import MAX_CARD_BYTES
from kvlease.protocol.lease import MAX_SLOTS
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, VERSION

MAX = 2**64 - 1
FEW = settings(derandomize=True, database=None, deadline=None)
u64 = st.integers(0, MAX)
cards = st.builds(
    LeaseCard,
    st.lists(u64, max_size=4),
    u64,
    st.binary(max_size=600),
    st.lists(
        st.builds(WorkerFence, u64, u64, st.integers(0, MAX - 8 * MAX_SLOTS), st.integers(0, MAX_SLOTS)), max_size=8
    ),
)


@FEW
@given(cards)
def test_every_card_comes_back_as_it_was(card: LeaseCard) -> None:
    assert LeaseCard.decode(card.encode()) == card


@pytest.mark.parametrize(
    ("versions", "speaks"), [([VERSION], True), ([VERSION + 1, VERSION], True), ([VERSION + 1], False), ([], False)]
)
def test_r9_the_versions_are_negotiated(versions: list[int], speaks: bool) -> None:
    assert LeaseCard(versions, 1, b"", []).speaks_our_version is speaks


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        msgspec.msgpack.encode([[1], 1, b""]),
        msgspec.msgpack.encode([[1], -1, b"", []]),
        msgspec.msgpack.encode([[1], 1, "text", []]),
        msgspec.msgpack.encode([[1], 1, b"", [[0, 0, 0]]]),
        msgspec.msgpack.encode([[1], 1, b"a" * (MAX_ADDRESS_BYTES + 1), []]),
        msgspec.msgpack.encode([[1], 1, b"", [[0, 0, (1 << 64) - 8, 2]]]),
        msgspec.msgpack.encode([[1], 1, b"", [[0, 0, 4096, MAX_SLOTS + 1]]]),
        msgspec.msgpack.encode({"versions": [1]}),
        msgspec.msgpack.encode([[1], 1, b"", [], b"a" * MAX_CARD_BYTES]),
    ],
)
def test_what_is_no_card_is_refused(payload: bytes) -> None:
    with pytest.raises(BadMessage) as error:
        LeaseCard.decode(payload)
    assert error.value.kind == "card"
    assert len(str(error.value)) < 200


def test_trailing_fields_of_a_newer_minor_version_are_ignored() -> None:
    fence = [0, 1, 4096, 64, "new"]
    payload = msgspec.msgpack.encode([[1], 2, b"here", [fence], "new"])
    assert LeaseCard.decode(payload) == LeaseCard([1], 2, b"here", [WorkerFence(0, 1, 4096, 64)])
