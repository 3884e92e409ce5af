"""What lessor and lessee keep must agree with itself at all times, and be nothing in the end (R12)."""

from kvlease.protocol import LeaseState, Lessee, Lessor
from kvlease.protocol.clock import ExpiryQueue
from kvlease.protocol.lessee import TRIES
from kvlease.protocol.tracking import Phase
from kvlease.sim.safety import Violation

LIVE = (LeaseState.GRANTED, LeaseState.CLAIMED)


def check_lessor(half: Lessor) -> None:
    """Leases, sessions and timers name each other."""
    for token, lease in half.leases.items():
        _must(
            (lease.state is LeaseState.CLAIMED) == bool(lease.claims), f"{token:x} is {lease.state} by {lease.claims}"
        )
        timed = token in half._lease_timers
        _must(timed == (lease.state is not LeaseState.REVOKING), f"{token:x}, {lease.state}, has a timer: {timed}")
        for peer in lease.claims:
            _must(token in half.sessions[peer].claims, f"{token:x} names session {peer:x}, which does not name it")
    for peer, session in half.sessions.items():
        for token in session.claims:
            _must(peer in half.leases[token].claims, f"session {peer:x} names {token:x}, which does not name it")
        _must(session.unstated <= session.claims, f"session {peer:x} waits for claims that it does not have")
        _must(peer in half._session_timers, f"session {peer:x} has no end")
        would_free = bool(session.claims) and not session.dead
        _must(
            (peer in half._probe_timers) == would_free,
            f"session {peer:x}: probed though its death would free nothing, or not probed",
        )
        _must(peer in half._restate_timers or not session.unstated, f"session {peer:x} waits without end")
    _must(len(half._session_timers) == len(half.sessions), "timers of sessions that are no more")
    _must(len(half._lease_timers) <= len(half.leases), "timers of leases that are no more")
    _must(len(half._probe_timers) + len(half._restate_timers) <= 2 * len(half.sessions), "probes of nobody")


def check_lessee(half: Lessee) -> None:
    """Sessions, leases, holders and timers name each other; and nothing that is wanted is left unsaid."""
    holders = 0
    for producer, session in half.sessions.items():
        _must(
            (producer in half._timers) != session.fetching, f"session {producer:x} neither waits nor fetches, or both"
        )
        _must(
            session.phase is Phase.SEEKING or not session.fetching, f"session {producer:x} fetches in {session.phase}"
        )
        _must(len(session.sent_at) <= 3 * TRIES, f"session {producer:x} remembers {len(session.sent_at)} messages")
        for token, tracked in session.leases.items():
            _must(bool(tracked.holders) or (producer, token) in half._lingering, f"nobody holds {token:x}")
            for holder in tracked.holders:
                _must(half._lease_of[holder] == (producer, token), f"{holder} holds {token:x} and another")
            holders += len(tracked.holders)
            stated = session.pending.get(token) or (session.window and token in session.window.claims)
            said = tracked.acknowledged or stated or session.phase is not Phase.OPEN
            _must(bool(said), f"the claim of {token:x} will never be said")
    _must(holders == len(half._lease_of), "holders of leases that are no more")
    _must(not half._lost & half._lease_of.keys(), "a holder whose lease is lost and tracked")
    _must(len(half._timers) <= len(half.sessions), "timers of sessions that are no more")


def lessor_is_empty(half: Lessor) -> None:
    """Nothing is left: no lease, no session, no timer (L3)."""
    _empty("L3", "lessor", half.leases, half.sessions, half._effects)
    for timers in (half._lease_timers, half._session_timers, half._probe_timers, half._restate_timers):
        _no_timer(timers)


def lessee_is_empty(half: Lessee) -> None:
    """Nothing is left: no session, no holder, no timer (L3)."""
    _empty("L3", "lessee", half.sessions, half._lease_of, half._lost, half._effects)
    for timers in (half._timers, half._lingering):
        _no_timer(timers)


def _no_timer(timers: "ExpiryQueue[int] | ExpiryQueue[tuple[int, int]]") -> None:
    _empty("L3", "expiry queue", timers._tick_of, timers._buckets)


def _empty(rule: str, whose: str, *kept: object) -> None:
    for things in kept:
        if things:
            raise Violation(rule, f"the {whose} keeps {things}")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation("R12", otherwise)
