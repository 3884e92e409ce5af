"""R11: sizes and test vectors in the documentation are those of the code that writes and reads."""

import json
from typing import Any

import msgspec
import pytest

from docs.made.messages import KINDS, largest, messages, smallest
from docs.made.pages import ROOT
from kvlease.errors import BadMessage, BadReference
from kvlease.protocol import Fingerprint, LeaseCard, LeaseRef
from kvlease.protocol.card import MAX_CARD_BYTES
from kvlease.protocol.messages import MAX_MESSAGE_BYTES, TOKENS_PER_MESSAGE, Message, Renew, decode, encode
from kvlease.protocol.prompt import Media, fingerprint

BY_NAME = {kind.__name__: kind for kind in KINDS}


def vectors(file: str, name: str) -> list[dict[str, Any]]:
    lists: dict[str, list[dict[str, Any]]] = json.loads((ROOT / "docs/protocol/vectors" / file).read_text())
    return lists[name]


def message(vector: dict[str, Any]) -> Message:
    """The message that a vector's fields make; bytes are in hex."""
    kind, fields = BY_NAME[vector["message"]], dict(vector["fields"])
    if "address" in fields:
        fields["address"] = bytes.fromhex(fields["address"])
    return kind(**fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_is_as_long_as_the_table_says(kind: type[Message]) -> None:
    shortest, longest = len(encode(smallest(kind))), len(encode(largest(kind)))
    assert shortest <= longest <= MAX_MESSAGE_BYTES
    assert [decode(encode(end(kind))) for end in (smallest, largest)] == [smallest(kind), largest(kind)]
    row = next(row for row in messages() if f"| {kind.__name__} |" in row)
    assert f"{longest:,} |" in row
    assert f"| {shortest:,}" in row


@pytest.mark.parametrize("claims", [0, 1, 15, 16, 448, 880, 896])
def test_no_share_of_the_tokens_makes_a_longer_renewal(claims: int) -> None:
    most = 2**64 - 1
    other = Renew(most, [most] * claims, [most] * (TOKENS_PER_MESSAGE - claims), most)
    assert len(encode(other)) <= len(encode(largest(Renew)))


def test_the_largest_card_is_allowed() -> None:
    assert len(largest(LeaseCard).encode()) <= MAX_CARD_BYTES


@pytest.mark.parametrize("vector", vectors("messages.json", "write_and_read"), ids=lambda v: v["message"])
def test_a_message_is_written_and_read_as_its_vector_says(vector: dict[str, Any]) -> None:
    assert encode(message(vector)).hex() == vector["hex"]
    assert decode(bytes.fromhex(vector["hex"])) == message(vector)


def test_there_is_a_vector_of_every_message() -> None:
    assert {vector["message"] for vector in vectors("messages.json", "write_and_read")} == BY_NAME.keys()


@pytest.mark.parametrize("vector", vectors("messages.json", "read"), ids=lambda v: v["why"])
def test_a_message_is_read_as_its_vector_says(vector: dict[str, Any]) -> None:
    assert decode(bytes.fromhex(vector["hex"])) == message(vector)


@pytest.mark.parametrize("vector", vectors("messages.json", "refuse"), ids=lambda v: v["kind"])
def test_what_is_no_message_is_refused_as_its_vector_says(vector: dict[str, Any]) -> None:
    with pytest.raises(BadMessage) as error:
        decode(bytes.fromhex(vector["hex"]))
    assert error.value.kind == vector["kind"]


@pytest.mark.parametrize("vector", vectors("cards.json", "write_and_read"))
def test_a_card_is_written_as_its_vector_says(vector: dict[str, Any]) -> None:
    assert LeaseCard.decode(bytes.fromhex(vector["hex"])).encode().hex() == vector["hex"]


@pytest.mark.parametrize("vector", vectors("cards.json", "write_and_read") + vectors("cards.json", "read"))
def test_a_card_is_read_as_its_vector_says(vector: dict[str, Any]) -> None:
    card = LeaseCard.decode(bytes.fromhex(vector["hex"]))
    said = vector["card"]
    assert (card.versions, card.incarnation, card.address.hex()) == tuple(said[k] for k in list(said)[:3])
    assert [msgspec.structs.asdict(fence) for fence in card.fences] == said["fences"]


@pytest.mark.parametrize("vector", vectors("cards.json", "refuse"), ids=lambda v: v["why"])
def test_what_is_no_card_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        LeaseCard.decode(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", vectors("references.json", "refuse"), ids=lambda v: v["why"])
def test_what_is_no_reference_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(BadReference):
        LeaseRef.from_params(vector["kv_lease"])


@pytest.mark.parametrize("vector", vectors("references.json", "references"))
def test_a_reference_is_written_and_read_as_its_vector_says(vector: dict[str, Any]) -> None:
    fields = vector["reference"]
    reference = LeaseRef(**fields | {"prompt": Fingerprint(**fields["prompt"])})
    assert reference.to_params() == vector["kv_lease"]
    assert LeaseRef.from_params(vector["kv_lease"]) == reference


@pytest.mark.parametrize("vector", vectors("fingerprints.json", "fingerprints"))
def test_a_prompt_has_the_fingerprint_that_its_vector_says(vector: dict[str, Any]) -> None:
    prompt = dict(vector["prompt"])
    prompt |= {name: bytes.fromhex(prompt[name]) for name in ("embeddings", "mask") if name in prompt}
    prompt["media"] = [Media(**item) for item in prompt.get("media", ())]
    assert fingerprint(**prompt) == Fingerprint(**vector["fingerprint"])
