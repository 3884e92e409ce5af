"""The structure of what lessor and lessee keep: it agrees with itself at all times, and is empty in the end (R12)."""

from kvlease.protocol import TIMING, LeaseState, LesseeSnapshot, LessorSnapshot, Timing
from kvlease.protocol.clock import Buckets
from kvlease.protocol.states import ConsumerState, ProducerState
from proof.promises.safety import Violation

LIVE = (LeaseState.GRANTED, LeaseState.CLAIMED)


def check_lessor(half: LessorSnapshot) -> None:
    """Check that leases, sessions and timers name each other."""
    leases = {lease.token: lease for lease in half.leases}
    sessions = {session.consumer: session for session in half.sessions}
    timed, ending, probed, restating = (
        _keys(half.timers[of]) for of in ("leases", "sessions", "probes", "restatements")
    )
    for token, lease in leases.items():
        _must(
            (lease.state is LeaseState.CLAIMED) == bool(lease.claims), f"{token:x} is {lease.state} by {lease.claims}"
        )
        has_timer = token in timed
        _must(
            has_timer == (lease.state is not LeaseState.LAPSED), f"{token:x}, {lease.state}, has a timer: {has_timer}"
        )
        for peer in lease.claims:
            _must(token in sessions[peer].claims, f"{token:x} names session {peer:x}, which does not name it")
    claimed = sum(bool(lease.claims) for lease in leases.values())
    _must(claimed == half.claimed, f"{claimed} leases are claimed, and {half.claimed} counted")
    for peer, session in sessions.items():
        for token in session.claims:
            _must(peer in leases[token].claims, f"session {peer:x} names {token:x}, which does not name it")
        _must(session.unstated <= session.claims, f"session {peer:x} waits for claims that it does not have")
        _must(peer in ending, f"session {peer:x} has no end")
        active = session.state is ConsumerState.ACTIVE
        claims = bool(session.claims) and session.state is not ConsumerState.DEAD
        _must(active == claims, f"session {peer:x} is {session.state} and claims {len(session.claims)} leases")
        _must(
            (peer in probed) == active,
            f"session {peer:x}: probed though its death would free nothing, or not probed",
        )
        _must(peer in restating or not session.unstated, f"session {peer:x} waits without end")
    _must(len(ending) == len(sessions), "timers of sessions that are no more")
    _must(len(timed) <= len(leases), "timers of leases that are no more")
    _must(len(probed) + len(restating) <= 2 * len(sessions), "probes of nobody")


def check_lessee(half: LesseeSnapshot, timing: Timing = TIMING) -> None:
    """Check that sessions, leases, holders and timers name each other, and that no claim will be left unsaid."""
    holders = 0
    timed, lingering = _keys(half.timers["pauses"]), _keys(half.timers["lingering"])
    for session in half.sessions:
        producer, seeking = session.producer, session.state is ProducerState.SEEKING
        _must((producer in timed) != session.fetching, f"session {producer:x} neither waits nor fetches, or both")
        _must(seeking or not session.fetching, f"session {producer:x} fetches when {session.state}")
        _must(
            session.unanswered <= timing.max_unanswered,
            f"session {producer:x} remembers {session.unanswered} messages",
        )
        for lease in session.leases:
            token = lease.token
            _must(bool(lease.holders) or (producer, token) in lingering, f"nobody holds {token:x}")
            for holder in lease.holders:
                _must(half.holders[holder] == (producer, token), f"{holder} holds {token:x} and another")
            holders += len(lease.holders)
            said = lease.acknowledged or token in session.claims or session.state is not ProducerState.OPEN
            _must(said, f"the claim of {token:x} will never be said")
    _must(holders == len(half.holders), "holders of leases that are no more")
    _must(not half.lost & half.holders.keys(), "a holder whose lease is lost and tracked")
    _must(len(timed) <= len(half.sessions), "timers of sessions that are no more")


def lessor_is_empty(half: LessorSnapshot) -> None:
    """Check that nothing is left: no lease, no session, no timer (L3)."""
    _empty("lessor", half.leases, half.sessions, half.effects, *half.timers.values())


def lessee_is_empty(half: LesseeSnapshot) -> None:
    """Check that nothing is left: no session, no holder, no timer (L3)."""
    _empty("lessee", half.sessions, half.holders, half.lost, half.effects, *half.timers.values())


def _keys(timers: Buckets) -> frozenset[object]:
    return frozenset(key for _, bucket in timers for key in bucket)


def _empty(whose: str, *kept: object) -> None:
    for things in kept:
        if things:
            raise Violation("L3", f"the {whose} keeps {things}")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation("R12", otherwise)
