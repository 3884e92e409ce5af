"""The producer's half of the protocol: what was granted, to whom it is still dear, and when it ends.

Pure: no I/O, no thread, no clock. Every entry takes `now` (monotonic seconds) and returns nothing; what is to be done
is collected by `take_effects`. The owner feeds it every arrived message first and calls `expire` last, so that nothing
ends while the message that would have saved it lies unread.

A renewal costs O(1) at any number of leases (R21): it moves the deadline of its session, and a lease lives as long as
one of the sessions that claim it (Gray and Cheriton 1989 give one term to many objects in the same way).
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from kvlease.protocol.clock import ExpiryQueue, ForgivingClock
from kvlease.protocol.config import LeaseConfig
from kvlease.protocol.effects import Connect, Disconnect, Effect, Revoke, Send
from kvlease.protocol.lease import Cause, Lease, LeaseState
from kvlease.protocol.messages import (
    VERSION,
    Ack,
    Bye,
    FromConsumer,
    Gone,
    Hello,
    Probe,
    Renew,
    Welcome,
    milliseconds,
    split,
)

LAG_TOLERANCE_S = 0.1
"""A gap between two calls that is longer than this is the lessor's own fault and given back to its consumers (R26)."""
SESSION_IDLE_S = 60.0
"""How long a session without claims is kept, so that the next request of its consumer finds it open."""
MAX_SESSIONS = 16384
"""Consumers at once; more than any fleet has, and a bound for what strangers can make us remember (R12)."""


@dataclass(slots=True)
class Session:
    """One consumer incarnation at this producer."""

    peer: int
    seq: int
    """Of the last message applied. A repetition carries a new one, so what is not newer changes nothing (S4)."""
    number: int
    """Never given twice: a session that was forgotten and is opened again is another one, without claims."""
    deadline: float = 0.0
    """Of all that it claims; without claims, of the session itself."""
    claims: set[int] = field(default_factory=set)
    unstated: set[int] = field(default_factory=set)
    """Claims from before the last Hello that were not stated again since; dropped one extension after it."""
    reopen: bool = False
    """Claims of it were ended from here: its consumer is asked to say Hello and to state them all again."""
    resting: bool = True
    """Its deadline is that of a session without claims, a long one."""
    dead: bool = False
    """The transport reported its process dead; only a new Hello brings it back."""


class Lessor:
    """Grants leases, hears of their consumers, and says which are over. Not thread-safe: one thread owns it."""

    def __init__(self, config: LeaseConfig, incarnation: int, now: float) -> None:
        self.config = config
        self.incarnation = incarnation
        self.counts: Counter[str] = Counter()
        """Events since the start: grants, renewals, claims, drops, ends.<cause>, late.<what>, refused.<what>."""
        self.leases: dict[int, Lease] = {}
        self.sessions: dict[int, Session] = {}
        self._clock = ForgivingClock(LAG_TOLERANCE_S, now)
        self._lease_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._session_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._probe_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._restate_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._numbers = itertools.count(1)
        self._effects: list[Effect] = []

    def take_effects(self) -> list[Effect]:
        """What is to be done, in this order; each is handed out once."""
        effects, self._effects = self._effects, []
        return effects

    # -- what the engine says ------------------------------------------------------------------------------------

    def grant(self, token: int, now: float) -> None:
        """The prefill is done and `token` may leave the producer: its term begins (R1)."""
        assert token not in self.leases, f"token {token:016x} names two leases"
        t = self._clock.read(now)
        self.leases[token] = Lease(token, granted_at=t, deadline=t + self.config.duration_s)
        self.counts["grants"] += 1
        self._set_lease_timer(self.leases[token])

    def extend(self, token: int, now: float) -> None:
        """A stock consumer's heartbeat named this lease: it has no session, so the lease itself is extended (R9)."""
        t = self._clock.read(now)
        lease = self.leases.get(token)
        if lease is None or lease.state is LeaseState.REVOKING:
            self.counts["late.heartbeat"] += 1
            return
        lease.deadline = max(lease.deadline, t + self.config.extension_s)
        self.counts["heartbeats"] += 1
        self._set_lease_timer(lease)

    def abort(self, token: int, now: float) -> None:
        """What was granted is not handed to anybody after all (an earlier sibling of a request with n > 1)."""
        self._clock.read(now)
        lease = self.leases.get(token)
        if lease is not None and lease.state is LeaseState.GRANTED:
            self._revoke(lease, Cause.ABORTED)

    def ended(self, token: int, now: float) -> None:
        """Every worker has cleared the word and let go of the blocks: after a `Revoke`, or since a stock consumer
        reported to each of them that it has read."""
        self._clock.read(now)
        lease = self.leases.pop(token, None)
        if lease is None:
            self.counts["late.ended"] += 1
            return
        if lease.state is not LeaseState.REVOKING:
            self._detach(lease)
            self.counts[f"ends.{Cause.RELEASED}"] += 1
        lease.enter(LeaseState.ENDED)

    def close(self) -> None:
        """The engine shuts down: say Bye to every consumer."""
        for peer in list(self.sessions):
            self._effects.append(Send(peer, Bye()))
            self._end_session(peer)

    # -- what consumers say --------------------------------------------------------------------------------------

    def receive(self, peer: int, message: FromConsumer, now: float) -> None:
        """A message of the consumer whose incarnation is `peer`."""
        t = self._clock.read(now)
        match message:
            case Hello():
                self._on_hello(peer, message, t)
            case Renew():
                self._on_renew(peer, message, t)
            case Bye():
                self._on_bye(peer, message)

    def peer_lost(self, peer: int, now: float) -> None:
        """The transport says that this consumer's process is dead: only the grace is left to its claims (R18)."""
        t = self._clock.read(now)
        session = self.sessions.get(peer)
        if session is None or session.dead:
            return
        session.dead = True
        self.counts["deaths"] += 1
        self._probe_timers.discard(peer)
        self._set_session_timer(session, min(session.deadline, t + self.config.orphan_grace_s))
        self._effects.append(Disconnect(peer))

    def _on_hello(self, peer: int, hello: Hello, t: float) -> None:
        if hello.incarnation != peer:
            self.counts["refused.hello_sender"] += 1
            return
        if hello.version != VERSION:
            # It could not read our Welcome; it should have seen that on the lease card.
            self.counts["refused.hello_version"] += 1
            return
        session = self.sessions.get(peer)
        if session is None:
            if len(self.sessions) >= MAX_SESSIONS:
                self.counts["refused.too_many_sessions"] += 1
                return
            session = self.sessions[peer] = Session(peer, hello.seq, next(self._numbers))
            self.counts["sessions_opened"] += 1
        elif hello.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        else:
            self._reopen(session, hello.seq, t)
        self._effects.append(Connect(peer, hello.address))
        self._extend_session(session, t)
        self._send(session, self._welcome(session), t)

    def _reopen(self, session: Session, seq: int, t: float) -> None:
        """A consumer that says Hello again states all its claims again; what it leaves out lapses an extension later.

        So nothing is lost in between, and nothing that an old message had put here stays for ever.
        """
        session.seq = seq
        session.dead = session.reopen = False
        session.unstated = set(session.claims)
        self._restate_timers.set(session.peer, t + self.config.extension_s)

    def _welcome(self, session: Session) -> Welcome:
        return Welcome(
            version=VERSION,
            incarnation=self.incarnation,
            hello_seq=session.seq,
            term_ms=milliseconds(self.config.duration_s),
            extension_ms=milliseconds(self.config.extension_s),
            interval_ms=milliseconds(self.config.renew_interval_s),
            probe_ms=milliseconds(self.config.probe_interval_s),
            session=session.number,
        )

    def _on_renew(self, peer: int, renew: Renew, t: float) -> None:
        session = self.sessions.get(peer)
        if session is None or session.dead or session.number != renew.session:
            # Nobody to answer: the missing Ack makes a living consumer say Hello again.
            self.counts["late.no_session"] += 1
            return
        if renew.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        session.seq = renew.seq
        self.counts["renewals"] += 1
        unknown = [token for token in renew.claims if not self._claim(session, token)]
        for token in renew.drops:
            self._drop(session, token)
        self._extend_session(session, t)
        self._send(session, Ack(renew.seq, unknown, session.reopen), t)

    def _claim(self, session: Session, token: int) -> bool:
        lease = self.leases.get(token)
        if lease is None or lease.state is LeaseState.REVOKING:
            self.counts["late.claim"] += 1
            return False
        session.unstated.discard(token)
        if token not in session.claims:
            self.counts["claims"] += 1
            session.claims.add(token)
            lease.claims += (session.peer,)
            if lease.state is LeaseState.GRANTED:
                lease.enter(LeaseState.CLAIMED)
                self._set_lease_timer(lease)
        return True

    def _drop(self, session: Session, token: int) -> None:
        """The consumer is through with the lease. Its token is the permission, whether or not its claim ever came."""
        self.counts["drops"] += 1
        lease = self.leases.get(token)
        if lease is None or lease.state is LeaseState.REVOKING:
            self.counts["late.drop"] += 1
            return
        self._unclaim(session, lease)
        if not lease.claims:
            self._revoke(lease, Cause.RELEASED)

    def _on_bye(self, peer: int, bye: Bye) -> None:
        session = self.sessions.get(peer)
        if session is None or bye.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        for token in list(session.claims):
            self._drop(session, token)
        if not session.dead:
            self._effects.append(Disconnect(peer))
        self._end_session(peer)

    # -- what time does ------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `expire` has something to do next, if nothing comes before; None while there is nothing to wait for.

        Until then it is to be called all the same, at least every `LAG_TOLERANCE_S`: a longer gap is a pause (R26). Or
        the owner says that there was none.
        """
        queues = (self._lease_timers, self._session_timers, self._probe_timers, self._restate_timers)
        dues = [due for timers in queues if (due := timers.next_due()) is not None]
        return min(dues) + self._clock.forgiven_s if dues else None

    def was_awake(self, now: float) -> None:
        """The owner has looked all the time up to `now`, as a driver of many lessors may know without calling each."""
        self._clock.was_awake(now)

    def expire(self, now: float) -> None:
        """End what is over, and probe who was not spoken to. Call it after all arrived messages were received."""
        t = self._clock.read(now)
        for peer in self._restate_timers.take_due(t):
            self._drop_unstated(self.sessions[peer], t)
        for peer in self._session_timers.take_due(t):
            self._session_due(self.sessions[peer], t)
        for token in self._lease_timers.take_due(t):
            self._lease_due(self.leases[token], t)
        for peer in self._probe_timers.take_due(t):
            self._send(self.sessions[peer], Probe(), t)

    def _drop_unstated(self, session: Session, t: float) -> None:
        for token in session.unstated & session.claims:
            lease = self.leases[token]
            self._unclaim(session, lease)
            if not lease.claims:
                self._lapse(lease, t)
        session.unstated = set()

    def _session_due(self, session: Session, t: float) -> None:
        if session.dead:
            self._orphan(session)
            self._end_session(session.peer)
        elif session.claims:
            self._lapse_claims(session, t)
        elif not session.resting:
            # Its last claim ended with the lease. Its consumer was told of that and not of the end of the session:
            # what it claims next would fall on deaf ears.
            self._rest(session, t)
        else:
            self._effects.append(Disconnect(session.peer))
            self._end_session(session.peer)

    def _orphan(self, session: Session) -> None:
        """Nobody took over from a dead consumer. What is left of the grant's own term is nobody's wish any more."""
        for token in list(session.claims):
            lease = self.leases[token]
            self._unclaim(session, lease)
            if not lease.claims:
                self._revoke(lease, Cause.ORPHANED)

    def _lapse_claims(self, session: Session, t: float) -> None:
        """Renewals stopped: the claims are void. The session stays for a while, to tell its consumer should it wake."""
        self.counts["lapses"] += 1
        gone = []
        for token in list(session.claims):
            lease = self.leases[token]
            self._unclaim(session, lease)
            if not lease.claims and self._lapse(lease, t):
                gone.append(token)
        session.reopen = True
        self._rest(session, t)
        for part in split(gone):
            self._send(session, Gone(part), t)

    def _lapse(self, lease: Lease, t: float) -> bool:
        """The last claim is void: the lease is over unless the term of its grant is still running."""
        if lease.deadline > t:
            lease.enter(LeaseState.GRANTED)
            self._set_lease_timer(lease)
            return False
        self._revoke(lease, Cause.EXPIRED)
        return True

    def _lease_due(self, lease: Lease, t: float) -> None:
        # The timer of a claimed lease is its age; comparing the floats once more could miss it by their rounding.
        if not lease.claims and lease.granted_at + self.config.max_age_s > t:
            self._revoke(lease, Cause.EXPIRED)
            return
        claimed_by = lease.claims
        self._revoke(lease, Cause.AGED_OUT)
        for peer in claimed_by:
            # Should Gone be lost, stating all claims again brings it to light (R20).
            self.sessions[peer].reopen = True
            self._send(self.sessions[peer], Gone([lease.token]), t)

    # -- how it is kept ------------------------------------------------------------------------------------------

    def _set_lease_timer(self, lease: Lease) -> None:
        oldest = lease.granted_at + self.config.max_age_s
        self._lease_timers.set(lease.token, oldest if lease.claims else min(lease.deadline, oldest))

    def _extend_session(self, session: Session, t: float) -> None:
        session.resting = not session.claims
        idle = SESSION_IDLE_S if session.resting else 0.0
        self._set_session_timer(session, t + max(self.config.extension_s, idle))

    def _rest(self, session: Session, t: float) -> None:
        session.resting = True
        self._set_session_timer(session, t + SESSION_IDLE_S)

    def _set_session_timer(self, session: Session, deadline: float) -> None:
        session.deadline = deadline
        self._session_timers.set(session.peer, deadline)

    def _unclaim(self, session: Session, lease: Lease) -> None:
        session.claims.discard(lease.token)
        session.unstated.discard(lease.token)
        lease.claims = tuple(peer for peer in lease.claims if peer != session.peer)
        if not session.claims:
            # Its death would free nothing. A fleet has more sessions at rest than leases out.
            self._probe_timers.discard(session.peer)

    def _detach(self, lease: Lease) -> None:
        self._lease_timers.discard(lease.token)
        for peer in lease.claims:
            self._unclaim(self.sessions[peer], lease)

    def _revoke(self, lease: Lease, cause: Cause) -> None:
        """No renewal is accepted from here on; the blocks are free when every worker has cleared the fence (S2)."""
        self._detach(lease)
        lease.enter(LeaseState.REVOKING)
        self.counts[f"ends.{cause}"] += 1
        self._effects.append(Revoke(lease.token, cause))

    def _end_session(self, peer: int) -> None:
        session = self.sessions.pop(peer)
        for token in list(session.claims):
            self._unclaim(session, self.leases[token])
        for timers in (self._session_timers, self._probe_timers, self._restate_timers):
            timers.discard(peer)
        self.counts["sessions_closed"] += 1

    def _send(self, session: Session, message: Welcome | Ack | Gone | Probe, t: float) -> None:
        if session.dead:
            return
        self._effects.append(Send(session.peer, message))
        if session.claims:
            self._probe_timers.set(session.peer, t + self.config.probe_interval_s)
