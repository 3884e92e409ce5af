"""The names that stand for a request and for a lease in events: hashes, the same on every engine.

An API server puts something before the id that its client knows, and behind it: "2_cmpl-ID-0-1a2b3c4d" is the third
sibling (n > 1) of the first prompt (0) of a completion, with vLLM's random tail. The hash is that of ID.
"""

import hashlib
import re
from collections.abc import Iterator

HASH_BYTES = 8
_COMPLETION = re.compile(r"(?:\d+_)?cmpl-(?P<name>.+?)(?:-\d{1,6})?(?:-[0-9a-f]{8})?", re.DOTALL)
_OTHER = re.compile(r"(?:\d+_)?(?:chatcmpl-|resp_|generate-tokens-)?(?P<name>.+?)(?:-[0-9a-f]{8})?", re.DOTALL)
_FRONT = re.compile(r"(?:\d+_)?(?:cmpl-|chatcmpl-|resp_|generate-tokens-)?(.+)", re.DOTALL)
_BACK = re.compile(r"(.+?)(?:-\d{1,6})?(?:-[0-9a-f]{8})?", re.DOTALL)
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{16})")


def client_id(request_id: str) -> str:
    """Returns the part of a request's name by which its client knows it."""
    known = _COMPLETION.fullmatch(request_id) or _OTHER.fullmatch(request_id)
    return known["name"] if known else request_id


def request_hash(request_id: str) -> str:
    """Returns what stands for a request in events, whatever an API server has added to its id."""
    return _hash(client_id(request_id).encode("utf-8", "surrogatepass"), b"kvlease-request")


def lease_hash(token: int) -> str:
    """Returns what stands for a lease in events: who has its token itself may read it."""
    return _hash(token.to_bytes(HASH_BYTES, "little"), b"kvlease-lease")


def _hash(value: bytes, person: bytes) -> str:
    return hashlib.blake2b(value, digest_size=HASH_BYTES, person=person).hexdigest()


def is_sampled(hashed: str, share: float) -> bool:
    """Tells whether this lease is among the `share` that is written down: all engines agree."""
    return share >= 1.0 or int(hashed, 16) < share * 2.0 ** (8 * HASH_BYTES)


def hashes_of(given: str) -> frozenset[str]:
    """Returns all hashes that a request may have whose id somebody gives: as its client wrote it, as the answer or a
    log has it, or the hash itself; and that of a lease by its token or hash."""
    hashes = {_hash(name.encode("utf-8", "surrogatepass"), b"kvlease-request") for name in _readings(given)}
    if (digits := _HEX.fullmatch(given)) is not None:
        hashes |= {digits[1].lower(), lease_hash(int(digits[1], 16))}
    return frozenset(hashes)


def _readings(given: str) -> Iterator[str]:
    yield given
    yield client_id(given)
    if (front := _FRONT.fullmatch(given)) is not None:
        yield front[1]
        yield client_id(front[1])
    if (back := _BACK.fullmatch(given)) is not None:
        yield back[1]


def near(given: str) -> Iterator[str]:
    """Yields ids that somebody may have meant: without spaces or quotes, in other letters."""
    plain = given.strip().strip("\"'`,;")
    for other in (plain, plain.lower(), plain.upper(), plain.replace("_", "-"), plain.removesuffix("...")):
        if other and other != given:
            yield other
