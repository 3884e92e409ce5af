"""A lease: its states, the causes of its end, and the reference to it that travels through the router."""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.errors import BadReference
from kvlease.protocol.prompt import Fingerprint

REF_VERSION = 2
"""2 since references say what was computed. One that does not is refused, and its prompt computed again."""
MAX_SLOTS = 1 << 24
MAX_TOKENS = 1 << 40
"""Of a prompt: far more than any model takes."""
# A term longer than a day is a typing error or an attack on somebody's memory.
MAX_TERM_MS = 24 * 3600 * 1000
_HEX_U64 = re.compile(r"[0-9a-f]{16}")


class LeaseState(enum.StrEnum):
    """A lease's life on its producer (protocol.md).

    PREPARED is the state of the fence alone (`kvlease.fence.ledger`): the word is armed but the token has not left the
    producer, so there is nobody to hear from. The lessor knows a lease from GRANTED on.
    """

    PREPARED = "prepared"
    GRANTED = "granted"
    CLAIMED = "claimed"
    REVOKING = "revoking"
    ENDED = "ended"


class Cause(enum.StrEnum):
    """Why a lease ended; the label of `kvlease:lease_ends_total`."""

    RELEASED = "released"
    """Its last consumer let go of it: the data was read, or the request ended."""
    EXPIRED = "expired"
    """Its term passed, or its consumers' renewals stopped while the transport still thought them alive."""
    ORPHANED = "orphaned"
    """The transport reported its last consumer dead, and nobody took over within the grace (R18, R23)."""
    ABORTED = "aborted"
    """The request had no result to hand over: its prefill was aborted, or it is a sibling whose answer is not used."""
    AGED_OUT = "aged_out"
    """It reached its maximum age, renewed or not (R25)."""


# Every transition there is; `Lease.enter` accepts no other.
TRANSITIONS: Mapping[LeaseState, frozenset[LeaseState]] = {
    LeaseState.PREPARED: frozenset({LeaseState.GRANTED, LeaseState.REVOKING}),
    LeaseState.GRANTED: frozenset({LeaseState.CLAIMED, LeaseState.REVOKING, LeaseState.ENDED}),
    LeaseState.CLAIMED: frozenset({LeaseState.GRANTED, LeaseState.REVOKING, LeaseState.ENDED}),
    LeaseState.REVOKING: frozenset({LeaseState.ENDED}),
    LeaseState.ENDED: frozenset(),
}


@dataclass(slots=True)
class Lease:
    """A lease as its lessor knows it. Times are the lessor's own (`clock.ForgivingClock`), in seconds."""

    token: int
    granted_at: float
    deadline: float
    """Of the grant itself, or of a stock consumer's last heartbeat; claims have the deadlines of their sessions."""
    state: LeaseState = LeaseState.GRANTED
    claims: tuple[int, ...] = ()
    """The sessions (consumer incarnations) that claim it. Nearly always one: a set would take 160 B more."""

    def enter(self, state: LeaseState) -> None:
        assert state in TRANSITIONS[self.state], f"lease {self.token:016x}: {self.state} to {state}"
        self.state = state


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """The name of a lease outside its producer; it travels as `kv_transfer_params["kv_lease"]`.

    incarnation: u64, the producer's lease agent. token: u64, not 0; the permission to renew, to drop and to read.
    slot: index into the producer's fence tables. term_ms: the initial term, as a duration. prompt: what was computed;
    the lease is good for no other (R35).
    """

    incarnation: int
    token: int
    slot: int
    term_ms: int
    prompt: Fingerprint

    def to_params(self) -> dict[str, str | int]:
        """As JSON that keeps all bits: u64 as 16 hex digits, since JSON numbers are exact only up to 2^53."""
        return {
            "version": REF_VERSION,
            "incarnation": f"{self.incarnation:016x}",
            "token": f"{self.token:016x}",
            "slot": self.slot,
            "term_ms": self.term_ms,
            "prompt_tokens": self.prompt.tokens,
            "prompt_digest": f"{self.prompt.digest:016x}",
            "prompt_media": f"{self.prompt.media:016x}",
        }

    @classmethod
    def from_params(cls, params: object) -> "LeaseRef":
        """Read what a router or client handed over, which may be anything. Raises `BadReference`."""
        if not isinstance(params, Mapping):
            raise BadReference(f"kv_lease is {brief(params)}, it must be the object that the producer returned")
        version = params.get("version")
        if version != REF_VERSION or isinstance(version, bool):
            raise BadReference(f"kv_lease version is {brief(version)}, this engine reads version {REF_VERSION}")
        token = _u64(params, "token")
        if token == 0:
            raise BadReference("kv_lease token is 0, which no lease has")
        return cls(
            incarnation=_u64(params, "incarnation"),
            token=token,
            slot=_whole(params, "slot", 0, MAX_SLOTS - 1),
            term_ms=_whole(params, "term_ms", 1, MAX_TERM_MS),
            prompt=Fingerprint(
                _whole(params, "prompt_tokens", 1, MAX_TOKENS),
                _u64(params, "prompt_digest"),
                _u64(params, "prompt_media"),
            ),
        )


def _u64(params: Mapping[object, object], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, str) or not _HEX_U64.fullmatch(value):
        raise BadReference(f"kv_lease {name} is {brief(value)}, it must be 16 lower-case hex digits")
    return int(value, 16)


def _whole(params: Mapping[object, object], name: str, low: int, high: int) -> int:
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadReference(f"kv_lease {name} is {brief(value)}, it must be a whole number from {low} to {high}")
    return value


def brief(value: object) -> str:
    """What somebody sent, for an error message: it may be of any kind and size, the message is one short line."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer beyond 64 bits"
    if isinstance(value, str):
        # repr escapes what is not printable, lone surrogates and line ends among it.
        text = repr(value[:40])
    else:
        text = repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."
