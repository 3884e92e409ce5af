"""Messages: whatever is encoded is decoded again, within bounds (R11), and nothing else is accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import BadMessage
from kvlease.protocol.messages import (
    MAGIC,
    MAX_ADDRESS_BYTES,
    MAX_ENGINE_ID_CHARS,
    MAX_MESSAGE_BYTES,
    TOKENS_PER_MESSAGE,
    VERSION,
    Ack,
    Bye,
    Gone,
    Hello,
    Message,
    Probe,
    Renew,
    Welcome,
    decode,
    encode,
    milliseconds,
    split,
)
from proof.hostile.wire import PREFIX, body, message_holds

MAX = 2**64 - 1
FEW = settings(derandomize=True, database=None, deadline=None)

u64 = st.one_of(st.integers(0, MAX), st.sampled_from([0, 1, 2**53 + 1, 2**63, MAX]))
tokens = st.lists(u64, max_size=40)
engine_ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, u64, u64, u64, engine_ids, st.binary(max_size=1000)),
    st.builds(Welcome, u64, u64, u64, *[st.integers(1, MAX)] * 4, u64),
    st.builds(Renew, u64, tokens, tokens, u64),
    st.builds(Ack, u64, tokens, st.booleans()),
    st.builds(Gone, tokens),
    st.just(Probe()),
    st.builds(Bye, u64),
)


@FEW
@given(messages)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "largest",
    [
        Renew(MAX, [MAX] * TOKENS_PER_MESSAGE, [], MAX),
        Renew(MAX, [], [MAX] * TOKENS_PER_MESSAGE, MAX),
        Ack(MAX, [MAX] * TOKENS_PER_MESSAGE, True),
        Gone([MAX] * TOKENS_PER_MESSAGE),
        Hello(MAX, MAX, MAX, "\U0010ffff" * MAX_ENGINE_ID_CHARS, b"a" * MAX_ADDRESS_BYTES),
    ],
    ids=lambda message: type(message).__name__,
)
def test_r11_the_largest_message_that_we_send_fits(largest: Message) -> None:
    assert len(encode(largest)) <= MAX_MESSAGE_BYTES
    assert decode(encode(largest)) == largest


def test_r11_a_list_that_was_not_split_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="Gone of"):
        encode(Gone([MAX] * 1000))


@pytest.mark.parametrize("count", [0, 1, TOKENS_PER_MESSAGE, TOKENS_PER_MESSAGE + 1, 10_000])
def test_r11_any_number_of_tokens_is_split_into_parts_that_fit(count: int) -> None:
    parts = split(list(range(count)))
    assert [token for part in parts for token in part] == list(range(count))
    assert all(1 <= len(part) <= TOKENS_PER_MESSAGE for part in parts)


def test_r11_the_answer_to_the_largest_renewal_that_anybody_can_send_fits() -> None:
    # Small numbers take one byte each: a stranger can name far more tokens than kvlease would, and all are unknown.
    count = MAX_MESSAGE_BYTES - len(body(3, 1, [0] * 1000, [])) + 1000
    renew = decode(body(3, 1, [0] * count, []))
    assert isinstance(renew, Renew)
    assert len(encode(Ack(renew.seq, renew.claims, True))) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"", "magic"),
        (b"KV", "magic"),
        (MAGIC, "magic"),
        (b"heartbeat:req-1,req-2", "magic"),
        (MAGIC + bytes([VERSION + 1]) + b"\x91\x06", "encoding"),
        (PREFIX + b"x" * MAX_MESSAGE_BYTES, "size"),
        (PREFIX, "body"),
        (PREFIX + b"\xc1", "body"),
        (PREFIX + b"\x91" * 5000, "body"),
        (body(6) + b"trailing bytes", "body"),
        (body(8), "body"),
        (body("3", 1, [], []), "body"),
        (body(3, 1), "body"),
        (body(3, -1, [], []), "body"),
        (body(3, 1, [-1], []), "body"),
        (body(3, 1, ["1"], []), "body"),
        (body(3, 1, [1.5], []), "body"),
        (body(3, None, [], []), "body"),
        (body(2, 1, 1, 1, 0, 1, 1, 1), "body"),
        (body(1, 1, 1, 1, "n" * (MAX_ENGINE_ID_CHARS + 1), b""), "body"),
        (body(1, 1, 1, 1, "n", b"a" * (MAX_ADDRESS_BYTES + 1)), "body"),
        (PREFIX + b"\x96\x01\x01\x01\x01\xa2\xff\xfe\xc4\x00", "body"),
    ],
)
def test_malformed_bytes_are_refused_by_kind(payload: bytes, kind: str) -> None:
    with pytest.raises(BadMessage) as error:
        decode(payload)
    assert error.value.kind == kind
    assert str(error.value).startswith(kind)
    assert len(str(error.value)) < 200


def test_trailing_fields_of_a_newer_minor_version_are_ignored() -> None:
    assert decode(body(6, "new", {"field": 1})) == Probe()
    assert decode(body(3, 7, [1], [2], 3, [4], "new")) == Renew(7, [1], [2], 3)


def test_fields_that_came_later_have_their_defaults() -> None:
    assert decode(body(4, 7, [])) == Ack(7, [], reopen=False)
    assert decode(body(7)) == Bye(0)


@settings(FEW, max_examples=300)
@given(messages, st.data())
def test_a_message_with_a_bit_flipped_or_an_end_missing_is_a_message_or_a_bad_message(
    message: Message, data: st.DataObject
) -> None:
    payload = bytearray(encode(message))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= 1 << data.draw(st.integers(0, 7))
    message_holds(bytes(payload))
    message_holds(encode(message)[:at])


@pytest.mark.parametrize(("duration_s", "ms"), [(20.0, 20_000), (0.0001, 1), (0.0, 1), (1 / 3, 334), (29.9991, 30_000)])
def test_durations_are_rounded_up(duration_s: float, ms: int) -> None:
    assert milliseconds(duration_s) == ms
