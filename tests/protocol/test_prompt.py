"""R35: a lease is bound to its prompt, of which every engine makes the same fingerprint."""

import pytest

from kvlease.protocol.prompt import Fingerprint, Media, fingerprint

IDS = (1, 255, 256, 70_000, 2**31)
PLAIN = fingerprint(IDS, tokens=5)
IMAGE = Media("a1b2", 1, 3)


def test_it_is_what_the_protocol_says_byte_for_byte() -> None:
    """R35: a test vector fixes the fingerprint for whoever implements the protocol again (docs/protocol/vectors.md)."""
    assert Fingerprint(5, 0x918D9BF60AF26A20, 0) == PLAIN
    whole = fingerprint(
        IDS,
        tokens=5,
        adapter="sql",
        salt="tenant",
        media=[IMAGE],
        embeddings=b"\x01" * 32,
        mask=b"\x01\x00\x01\x01\x01",
    )
    assert whole == Fingerprint(5, 0x7F53DBFBC72ADE2E, 0x21E116A0A2C3BAD2)


@pytest.mark.parametrize(
    "other",
    [
        fingerprint((*IDS[:-1], 7), tokens=5),
        fingerprint(IDS[:-1], tokens=4),
        fingerprint(tuple(reversed(IDS)), tokens=5),
        fingerprint(IDS, tokens=5, adapter="sql"),
        fingerprint(IDS, tokens=5, salt="sql"),
        fingerprint(IDS, tokens=5, adapter=""),
        fingerprint(None, tokens=5),
        fingerprint(IDS, tokens=5, media=[IMAGE]),
        fingerprint(IDS, tokens=5, media=[Media("a1b2", 2, 3)]),
        fingerprint(IDS, tokens=5, media=[Media("a1b3", 1, 3)]),
        fingerprint(IDS, tokens=5, embeddings=b"\x01" * 32),
        fingerprint(None, tokens=5, embeddings=b"\x01" * 32),
        fingerprint(IDS, tokens=5, mask=b"\x01\x01\x01\x01\x00"),
    ],
)
def test_whatever_the_cache_depends_on_makes_it_another_prompt(other: Fingerprint) -> None:
    assert other != PLAIN


def test_the_kind_of_sequence_that_the_tokens_are_in_is_of_no_matter() -> None:
    assert fingerprint(list(IDS), tokens=5) == PLAIN


def test_what_clients_write_need_not_be_text() -> None:
    """R14: a text of a client need not be text: JSON can write half of a character."""
    assert fingerprint(IDS, tokens=5, salt="\ud800") != fingerprint(IDS, tokens=5, salt="\ud801")


def test_what_is_no_token_is_told_apart_by_itself() -> None:
    """R35: media have a digest of their own: where a decode engine has stand-ins for them, it alone differs."""
    one, other = (fingerprint(IDS, tokens=5, media=[Media(name, 1, 3)]) for name in ("cat", "dog"))
    assert (one.tokens, one.digest) == (other.tokens, other.digest) == (PLAIN.tokens, PLAIN.digest)
    assert len({one.media, other.media, PLAIN.media}) == 3


def test_an_empty_salt_is_none_as_for_vllms_own_hashes() -> None:
    assert fingerprint(IDS, tokens=5, salt="") == PLAIN
