"""A lease as its producer keeps it, and the reference to it that travels through the router."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kvlease.errors import BadReference, brief
from kvlease.protocol.prompt import Fingerprint
from kvlease.protocol.states import LEASE, Cause, LeaseEvent, LeaseState, impossible

REF_VERSION = 2
"""The version of the reference: 2 since it says what was computed. Another is refused, and its prompt computed
again."""
MAX_SLOTS = 1 << 24
"""The most words in a worker's fence table."""
MAX_TOKENS = 1 << 40
"""The most tokens of a prompt: far more than any model takes."""
MAX_TERM_MS = 24 * 3600 * 1000
"""The longest term in a reference: more than a day is a typing error, or an attack on an engine's memory."""
RANGES: Mapping[str, tuple[int, int]] = {
    "slot": (0, MAX_SLOTS - 1),
    "term_ms": (1, MAX_TERM_MS),
    "prompt_tokens": (1, MAX_TOKENS),
}
"""The whole numbers in a reference: the least and the greatest value of each."""
_HEX_U64 = re.compile(r"[0-9a-f]{16}")


class LeaseView(NamedTuple):
    """A lease at its producer. Times are the lessor's own, in seconds."""

    token: int
    state: LeaseState
    granted_at: float
    deadline: float
    """The end of the grant's term, or of a stock consumer's last heartbeat's."""
    claims: tuple[int, ...]
    """Incarnations of the consumers that claim it."""


@dataclass(slots=True)
class Lease:
    """A lease as its lessor knows it. Times are the lessor's own (`clock.ForgivingClock`), in seconds."""

    token: int
    granted_at: float
    deadline: float
    """The end of the grant's term, or of a stock consumer's last heartbeat's; claims end with their sessions."""
    state: LeaseState = LeaseState.PREPARED
    claims: tuple[int, ...] = ()
    """The sessions (consumer incarnations) that claim it: nearly always one, and a set would take 160 B more."""
    unaware: tuple[int, ...] = ()
    """The sessions whose claims ended without their doing: they may still read, and are told when the lease ends."""
    cause: Cause | None = None
    """The cause for which it was over last."""
    claimed_at: float | None = None
    """The time of its first claim."""
    number: int = 0
    """The number of its grant, for listings; nothing depends on it."""

    def happen(self, event: LeaseEvent) -> Cause | None:
        """Moves the lease to the state that the table gives; returns the cause if it is over now."""
        # `after` is not called, since that would double the cost: each lease comes through here four times.
        try:
            self.state, cause = LEASE[self.state, event]
        except KeyError:
            raise impossible(self.state, event) from None
        return cause

    def snapshot(self) -> LeaseView:
        """Returns all that is known of the lease now."""
        return LeaseView(self.token, self.state, self.granted_at, self.deadline, self.claims)


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """The name of a lease outside its producer; it travels as JSON, the `kv_lease` of an offer."""

    incarnation: int
    """The incarnation of the producer's lease agent, u64."""
    token: int
    """The permission to renew, to drop and to read, u64, not 0."""
    slot: int
    """The place of the lease's word in the producer's fence tables."""
    term_ms: int
    """The initial term, in milliseconds."""
    prompt: Fingerprint
    """The fingerprint of what was computed; the lease is good for no other prompt (R35)."""

    def to_params(self) -> dict[str, str | int]:
        """Returns it as JSON that keeps all bits: u64 as 16 hex digits, since JSON numbers are exact only up to
        2^53."""
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
        """Reads what a router or client handed over, which may be anything. Raises `BadReference`."""
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
            slot=_whole(params, "slot"),
            term_ms=_whole(params, "term_ms"),
            prompt=Fingerprint(
                _whole(params, "prompt_tokens"),
                _u64(params, "prompt_digest"),
                _u64(params, "prompt_media"),
            ),
        )


def _u64(params: Mapping[object, object], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, str) or not _HEX_U64.fullmatch(value):
        raise BadReference(f"kv_lease {name} is {brief(value)}, it must be 16 lower-case hex digits")
    return int(value, 16)


def _whole(params: Mapping[object, object], name: str) -> int:
    value = params.get(name)
    low, high = RANGES[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadReference(f"kv_lease {name} is {brief(value)}, it must be a whole number from {low} to {high}")
    return value
