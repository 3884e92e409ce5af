"""The reference to a lease survives every router (R4, R22)."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.errors import BadReference
from kvlease.protocol import Fingerprint, LeaseRef
from kvlease.protocol.lease import MAX_SLOTS, MAX_TERM_MS, MAX_TOKENS
from proof.hostile.references import reference_holds

MAX = 2**64 - 1
FEW = settings(derandomize=True, database=None, deadline=None)
PROMPT = Fingerprint(tokens=96, digest=0xF00)
GOOD = LeaseRef(0xABC, 0xDEF, 7, 30_000, PROMPT).to_params()

u64 = st.one_of(st.integers(0, MAX), st.sampled_from([0, 1, 2**53, 2**53 + 1, 2**63, MAX - 1, MAX]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@FEW
@given(
    u64,
    u64.filter(bool),
    st.integers(0, MAX_SLOTS - 1),
    st.integers(1, MAX_TERM_MS),
    st.integers(1, MAX_TOKENS),
    u64,
    u64,
)
def test_a_reference_comes_back_through_json_with_all_its_bits(
    inc: int, token: int, slot: int, term_ms: int, tokens: int, digest: int, media: int
) -> None:
    ref = LeaseRef(inc, token, slot, term_ms, Fingerprint(tokens, digest, media))
    assert LeaseRef.from_params(json.loads(json.dumps(ref.to_params()))) == ref


def test_no_number_in_it_is_beyond_what_a_javascript_router_keeps() -> None:
    params = LeaseRef(MAX, MAX, MAX_SLOTS - 1, MAX_TERM_MS, Fingerprint(MAX_TOKENS, MAX, MAX)).to_params()
    assert params["token"] == params["incarnation"] == "f" * 16
    assert all(value < 2**53 for value in params.values() if isinstance(value, int))


def test_fields_of_a_newer_minor_version_are_ignored() -> None:
    assert LeaseRef.from_params(GOOD | {"new": [1]}) == LeaseRef(0xABC, 0xDEF, 7, 30_000, PROMPT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *itertools.product(
            ("incarnation", "token", "prompt_digest", "prompt_media"),
            (None, 7, "7", "F" * 16, "f" * 15, "f" * 17, "0x" + "f" * 14),
        ),
        ("token", "f" * 16 + "\n"),
        ("token", "0" * 16),
        ("token", "٣" * 16),
        *itertools.product(("slot", "term_ms", "prompt_tokens"), (None, -1, True, "7", 1.0, [], 10**30)),
        ("slot", MAX_SLOTS),
        ("term_ms", 0),
        ("term_ms", MAX_TERM_MS + 1),
        ("prompt_tokens", 0),
        ("prompt_tokens", MAX_TOKENS + 1),
        *itertools.product(("version",), (None, 0, 1, 3, True, "1", [1])),
    ],
)
def test_a_bad_field_is_named_with_its_value(field: str, value: object) -> None:
    with pytest.raises(BadReference, match=f"kv_lease {field} is "):
        LeaseRef.from_params(GOOD | {field: value})
    if value is not None:
        return
    with pytest.raises(BadReference, match=f"kv_lease {field} is None"):
        LeaseRef.from_params({key: kept for key, kept in GOOD.items() if key != field})


@pytest.mark.parametrize("huge", ["x" * 10**6, 10**5000, [0] * 10**5, {"a": 1}], ids=["text", "int", "list", "object"])
def test_an_error_message_stays_short_whatever_was_sent(huge: object) -> None:
    for field in ("version", "token", "slot"):
        with pytest.raises(BadReference) as error:
            LeaseRef.from_params(GOOD | {field: huge})
        assert len(str(error.value)) < 160
    if not isinstance(huge, dict):
        with pytest.raises(BadReference):
            LeaseRef.from_params(huge)


@settings(FEW, max_examples=200)
@given(json_values)
def test_arbitrary_json_is_a_bad_reference(params: object) -> None:
    reference_holds(params)


@settings(FEW, max_examples=200)
@given(st.sampled_from(sorted(GOOD)), json_values)
def test_a_reference_with_one_field_replaced_is_read_or_refused(field: str, value: object) -> None:
    reference_holds(GOOD | {field: value})
