"""The prompt that a lease is bound to (R35).

A consumer copies blocks by their position, and nothing in them says what was computed. So the reference to a lease has
a fingerprint of it, which the consumer compares before anything is read: KV cache of one prompt is never used for
another, whatever a router mixed up (vllm 54707, 50559, 50558).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A digest of all that a prompt's KV cache depends on. Engines that serve the same model compute the same one."""

    tokens: int
    """The prompt's length in tokens, as the client sent it."""
    digest: int
    """The hash of its tokens, adapter and salt, u64."""
    media: int = 0
    """The hash of all that is no token, u64; 0 where there is nothing of that kind."""


@dataclass(frozen=True, slots=True)
class Media:
    """An image, or another input that is not text: the hash of its content, and the tokens that stand for it."""

    identifier: str
    offset: int
    length: int


def fingerprint(
    token_ids: Sequence[int] | None,
    *,
    tokens: int,
    adapter: str | None = None,
    salt: str | None = None,
    media: Iterable[Media] = (),
    embeddings: bytes | None = None,
    mask: bytes | None = None,
) -> Fingerprint:
    """Returns the fingerprint of a prompt as it came, uncut: a hash of its tokens, and one of all else in it, since a
    decode engine may have been given stand-ins for that (decision 0018).

    A hash is the first 8 bytes of a SHA-256 over MessagePack, whose shortest form every encoder writes alike.
    token_ids: None for a prompt that is embeddings alone. tokens: the prompt's length. adapter: the name of its LoRA.
    salt: that of its prefix cache, none where it is empty. embeddings: the SHA-256 of their bytes. mask: a byte a
    position, 1 for a token and 0 for an embedding, where a prompt mixes them.
    """
    items = [(_text(item.identifier), item.offset, item.length) for item in media]
    other_than_tokens = _u64((items, embeddings, mask)) if items or embeddings or mask else 0
    return Fingerprint(tokens, _u64((token_ids, _text(adapter), _text(salt or None))), other_than_tokens)


def _u64(content: object) -> int:
    return int.from_bytes(hashlib.sha256(msgspec.msgpack.encode(content)).digest()[:8], "big")


def _text(value: str | None) -> bytes | None:
    # A text is hashed as bytes: clients write it, and a lone surrogate in it is not UTF-8.
    return None if value is None else value.encode("utf-8", "surrogatepass")
