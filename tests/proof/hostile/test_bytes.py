"""Whatever reads strangers' bytes bears any bytes (R6, R11, R14); `make fuzz-bytes` asks the same of many more."""

import random
import time
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.agent.nixl import sort_out
from kvlease.errors import BadMessage
from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.protocol.messages import MAX_MESSAGE_BYTES, Ack, Gone, Hello, Message, Renew, decode, encode
from proof.hostile.notifications import PARTS, sorting_holds
from proof.hostile.targets import MESSAGES
from proof.hostile.wire import PREFIX, card_holds, entry_holds, message_holds

pytestmark = pytest.mark.long

SOME = settings(derandomize=True, database=None, deadline=None, max_examples=150)
MAX = 2**64 - 1
TIMES = 60
"""The bytes of memory that reading may take for each byte of a message: an int in a list takes 40."""

scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), MAX), st.floats(), st.binary(max_size=40))
trees = st.recursive(
    st.one_of(scalars, st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)),
    max_leaves=30,
)
arrays = st.tuples(st.integers(0, 9), st.lists(trees, max_size=9)).map(lambda t: msgspec.msgpack.encode([t[0], *t[1]]))


@settings(SOME, max_examples=300)
@given(st.one_of(st.binary(max_size=300), arrays))
def test_r14_bytes_are_a_message_or_a_counted_kind_of_bad_one(data: bytes) -> None:
    message_holds(data)


@settings(SOME, max_examples=300)
@given(st.one_of(st.binary(max_size=200), arrays, trees.map(msgspec.msgpack.encode)))
def test_r14_bytes_are_a_card_or_none(data: bytes) -> None:
    card_holds(data)
    entry_holds(data)


@SOME
@given(st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PARTS), max_size=9).map(b"".join)))
def test_r14_notifications_are_sorted_by_name(data: bytes) -> None:
    sorting_holds(data)


@pytest.mark.parametrize(
    "payload",
    [
        PREFIX + msgspec.msgpack.encode((3, 1, [0] * (MAX_MESSAGE_BYTES - 20), [])),
        encode(Gone([MAX] * 896)),
        PREFIX + b"\x92\x06" + b"\x91" * (MAX_MESSAGE_BYTES - 6),
        PREFIX + b"\x95\x03\x01\xdd\xff\xff\xff\xff" + b"\x01" * 8000,
        PREFIX + b"\x95\x03\x01\xdf\xff\xff\xff\xff",
        PREFIX + b"\x96\x01\x01\x01\x01\xdb\xff\xff\xff\xff" + b"a" * 8000,
    ],
    ids=["small tokens", "large tokens", "deep", "a huge array", "a huge map", "a huge text"],
)
def test_r11_a_message_costs_memory_and_time_in_proportion_to_its_size(payload: bytes) -> None:
    """R11: a message costs memory and time in proportion to its size, whatever length it claims to have."""
    assert len(payload) <= MAX_MESSAGE_BYTES
    tracemalloc.start()
    began = time.thread_time()
    try:
        decode(payload)
    except BadMessage:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < TIMES * MAX_MESSAGE_BYTES
    assert time.thread_time() - began < 0.5


STRANGE: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1,
    MAX,
    1.0,
    "",
    "x" * 300,
    b"x" * 8000,
    [],
    [-1],
    [1.0],
    [[]],
    {},
    {1: 2},
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_r14_any_value_in_any_field_is_read_rightly_or_refused(message: Message) -> None:
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    for at in range(len(fields)):
        for value in STRANGE:
            message_holds(msgspec.msgpack.encode([*fields[:at], value, *fields[at + 1 :]]))


def test_r14_depth_in_what_would_be_ignored_is_borne() -> None:
    deep = b"\x91" * 5000
    message_holds(b"\x92\x06" + deep)
    card_holds(b"\x95\x91\x01\x01\xc4\x00\x90" + deep)
    entry_holds(b"\x81\xa1x" + deep)


@pytest.mark.parametrize(
    "name",
    ["kvlease-000000000000000A", "kvlease-1", "kvlease-00000000000000001", "kvlease-0000000000000001\n", "", "P"],
)
def test_r14_only_the_name_of_a_lease_agent_is_one(name: str) -> None:
    assert sort_out({name: [b"x"], name.encode(): [b"y"]}) == ([], 2)
    assert sort_out({"kvlease-000000000000000a": [b"x"]}) == ([(10, b"x")], 0)


largest: tuple[Message, ...] = (
    Hello(1, 2, 3, "engine", b"address" * 60),
    Renew(9, [1, MAX], [2], 3),
    Ack(9, [5], True),
)


@pytest.mark.parametrize("message", largest, ids=lambda message: type(message).__name__)
def test_r14_every_damage_of_one_byte_and_every_missing_end_is_borne(message: Message) -> None:
    whole, chance = encode(message), random.Random(1)
    for at in range(len(whole)):
        message_holds(whole[:at])
        for value in (0, 255, whole[at] ^ 1, chance.randrange(256)):
            message_holds(whole[:at] + bytes([value]) + whole[at + 1 :])


def test_r14_every_damage_of_one_byte_of_a_card_is_borne() -> None:
    whole = LeaseCard([1], MAX, b"address", [WorkerFence(0, 1, 4096, 64), WorkerFence(1, 0, MAX - 8, 1)]).encode()
    for at in range(len(whole)):
        card_holds(whole[:at])
        for value in range(256):
            card_holds(whole[:at] + bytes([value]) + whole[at + 1 :])
