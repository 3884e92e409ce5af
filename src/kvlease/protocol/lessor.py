"""The producer's half of the protocol: the leases that were granted, who still wants them, and when they end.

It is pure: no I/O, no thread, no clock. Its methods take `now` (monotonic seconds) and return nothing; what is to be
done is collected by `take_effects`. The owner gives it every arrived message first and calls `advance` last, so that no
lease ends while the message that would have saved it is still unread.

A renewal costs O(1) at any number of leases (R21): it moves the deadline of its session, and a lease lives as long as
one of the sessions that claim it (Gray and Cheriton 1989 give one term to many objects in the same way).
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from kvlease.protocol.claims import ConsumerSession, ConsumerView
from kvlease.protocol.clock import Buckets, ExpiryQueue, ForgivingClock
from kvlease.protocol.config import LeaseConfig
from kvlease.protocol.effects import Connect, Disconnect, Effect, Lapse, Revive, Send
from kvlease.protocol.facts import (
    ConsumerChanged,
    ConsumerSilent,
    LeaseClaimed,
    LeaseEnded,
    LeaseLapsed,
    SessionRenewed,
    Tell,
)
from kvlease.protocol.lease import Lease, LeaseView
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
from kvlease.protocol.states import Cause, ConsumerEvent, ConsumerState, LeaseEvent, LeaseState
from kvlease.protocol.timing import TIMING, Timing

_FINAL = (Cause.ABORTED, Cause.AGED_OUT, Cause.REVOKED)
"""The causes after which nobody may claim a lapsed lease again."""


class LessorSnapshot(NamedTuple):
    """The state of a producer's half at a moment."""

    incarnation: int
    leases: tuple[LeaseView, ...]
    sessions: tuple[ConsumerView, ...]
    timers: Mapping[str, Buckets]
    """The timers by what they end: leases, sessions, probes (pauses in which nothing was said), restatements."""
    claimed: int
    """The number of leases that a session claims."""
    effects: int
    """The number of effects that were not taken yet."""


class Lessor:
    """Grants leases, hears of their consumers, and says which are over. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        config: LeaseConfig,
        incarnation: int,
        now: float,
        timing: Timing = TIMING,
        tell: Tell | None = None,
    ) -> None:
        self.config = config
        self.timing = timing
        self.incarnation = incarnation
        self.counts: Counter[str] = Counter()
        """Events since the start: grants, revivals, renewals, claims, drops, ends.<cause>, late.<what>,
        refused.<what>."""
        self.leases: dict[int, Lease] = {}
        """The leases that are granted and not ended, by token; those that have lapsed are among them."""
        self.sessions: dict[int, ConsumerSession] = {}
        self.claimed = 0
        """The number of leases that a session claims."""
        self._clock = ForgivingClock(timing.lag_tolerance_s, now)
        self._lease_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._session_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._probe_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._restate_timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._numbers = itertools.count(1)
        self._effects: list[Effect] = []
        self._tell = tell
        self._gone: dict[int, list[int]] = {}
        """The tokens of which each session is to be told that they are gone, in this turn."""

    @property
    def time(self) -> float:
        """The lessor's own time when it was last told one; all times in leases and sessions are of this kind."""
        return self._clock.latest

    @property
    def held(self) -> int:
        """The number of leases that somebody holds: those that have not lapsed."""
        return len(self._lease_timers)

    def take_effects(self) -> list[Effect]:
        """Returns what is to be done, in this order; each effect is handed out once."""
        effects, self._effects = self._effects, []
        return effects

    # -- what the engine says ------------------------------------------------------------------------------------

    def grant(self, token: int, now: float) -> None:
        """The prefill is done and `token` may leave the producer: its term begins (R1)."""
        assert token not in self.leases, f"token {token:016x} names two leases"
        t = self._clock.read(now)
        lease = self.leases[token] = Lease(token, granted_at=t, deadline=t + self.config.duration_s)
        lease.happen(LeaseEvent.GRANT)
        self.counts["grants"] += 1
        lease.number = self.counts["grants"]
        self._set_lease_timer(lease)

    def extend(self, token: int, now: float) -> None:
        """A stock consumer's heartbeat named this lease: it has no session, so the lease itself is extended (R9)."""
        t = self._clock.read(now)
        lease = self._live(token)
        if lease is None:
            self.counts["late.heartbeat"] += 1
            return
        lease.deadline = max(lease.deadline, t + self.config.extension_s)
        self.counts["heartbeats"] += 1
        self._set_lease_timer(lease)

    def release(self, token: int, now: float) -> None:
        """A stock consumer has told every worker that it has read. Sessions that claim the lease, too, keep it."""
        t = self._clock.read(now)
        lease = self._live(token)
        if lease is None:
            self.counts["late.drop"] += 1
            return
        lease.deadline = t
        if not lease.claims:
            self._lapse(lease, LeaseEvent.RELEASE, t)

    def abort(self, token: int, now: float) -> None:
        """The lease is not handed to anybody after all (that of an earlier sibling of a request with n > 1)."""
        t = self._clock.read(now)
        lease = self.leases.get(token)
        if lease is not None and lease.state is LeaseState.GRANTED:
            self._lapse(lease, LeaseEvent.ABORT, t)

    def revoke(self, token: int, now: float) -> None:
        """An operator ends the lease. Who claims it is told as soon as its word is clear, and may read till then."""
        t = self._clock.read(now)
        lease = self._live(token)
        if lease is not None:
            self._note_unaware(lease, *lease.claims)
            self._lapse(lease, LeaseEvent.REVOKE, t)

    def cleared(self, token: int, now: float) -> None:
        """The lease's word is clear in every worker, and whoever may still want to read is told that it is gone."""
        t = self._clock.read(now)
        lease = self.leases.pop(token, None)
        if lease is None:
            self.counts["late.cleared"] += 1
            return
        unaware = lease.unaware + lease.claims
        self._detach(lease, t)
        if (cause := lease.happen(LeaseEvent.CLEAR)) is not None:
            self.counts[f"ends.{cause}"] += 1
        if self._tell is not None:
            self._tell(LeaseEnded(token, cause))
        for peer in unaware:
            if peer in self.sessions:
                self._gone.setdefault(peer, []).append(token)

    def close(self, now: float) -> None:
        """The engine shuts down: says Bye to every consumer."""
        t = self._clock.read(now)
        for session in list(self.sessions.values()):
            self._effects.append(Send(session.peer, Bye()))
            self._end_session(session, ConsumerEvent.BYE, t)

    # -- what consumers say --------------------------------------------------------------------------------------

    def receive(self, peer: int, message: FromConsumer, now: float) -> None:
        """Takes a message of the consumer whose incarnation is `peer`."""
        t = self._clock.read(now)
        match message:
            case Hello():
                self._on_hello(peer, message, t)
            case Renew():
                self._on_renew(peer, message, t)
            case Bye():
                self._on_bye(peer, message, t)

    def peer_lost(self, peer: int, now: float) -> None:
        """The transport says that this consumer's process is dead: its claims end after the grace (R18)."""
        t = self._clock.read(now)
        session = self.sessions.get(peer)
        if session is None or session.state is ConsumerState.DEAD:
            return
        session.happen(ConsumerEvent.LOST)
        self._tell_of(session, ConsumerEvent.LOST)
        self.counts["deaths"] += 1
        self._probe_timers.discard(peer)
        # It states nothing again: its claims end with the session, and not with the term of their grant (0003).
        self._restate_timers.discard(peer)
        session.unstated.clear()
        self._set_deadline(session, min(session.deadline, t + self.config.orphan_grace_s))
        self._effects.append(Disconnect(peer))

    def _on_hello(self, peer: int, hello: Hello, t: float) -> None:
        if hello.incarnation != peer:
            self.counts["refused.hello_sender"] += 1
            return
        if hello.version != VERSION:
            # The consumer could not read our Welcome; it should have seen that on the lease card.
            self.counts["refused.hello_version"] += 1
            return
        session = self.sessions.get(peer)
        if session is None:
            if len(self.sessions) >= self.timing.max_sessions:
                self.counts["refused.too_many_sessions"] += 1
                return
            session = self.sessions[peer] = ConsumerSession(peer, next(self._numbers))
            self.counts["sessions_opened"] += 1
        elif hello.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        session.engine_id = hello.engine_id
        session.heard_at = t
        self._open(session, hello.seq, t)
        self._tell_of(session, ConsumerEvent.HELLO)
        self._effects.append(Connect(peer, hello.address))
        self._extend_session(session, t)
        self._send(session, self._welcome(session), t)

    def _open(self, session: ConsumerSession, seq: int, t: float) -> None:
        """Opens the session. A consumer that says Hello again states its claims again; others lapse an extension later.

        So no claim is lost in between, and none that came with an old message is kept for ever.
        """
        session.happen(ConsumerEvent.HELLO)
        session.seq = seq
        session.reopen = False
        if session.claims:
            if session.state is ConsumerState.RESTING:
                # The consumer was reported dead, and what it claimed is still held.
                session.happen(ConsumerEvent.CLAIM)
            session.unstated = set(session.claims)
            self._restate_timers.set(session.peer, t + self.config.extension_s)

    def _welcome(self, session: ConsumerSession) -> Welcome:
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
        if session is None or session.state is ConsumerState.DEAD or session.number != renew.session:
            # There is no session to answer in: without an Ack, a living consumer says Hello again.
            self.counts["late.no_session"] += 1
            return
        if renew.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        session.seq = renew.seq
        session.heard_at = t
        self.counts["renewals"] += 1
        if self._tell is not None and session.claims:
            self._tell(SessionRenewed(peer, max(0.0, session.deadline - t), len(session.claims)))
        unknown = [token for token in renew.claims if not self._claim(session, token, t)]
        for token in renew.drops:
            self._drop(session, token, t)
        self._extend_session(session, t)
        self._send(session, Ack(renew.seq, unknown, session.reopen), t)

    def _claim(self, session: ConsumerSession, token: int, t: float) -> bool:
        lease = self.leases.get(token)
        if lease is None or not self._may_claim(lease, t):
            self.counts["late.claim"] += 1
            return False
        session.unstated.discard(token)
        if token not in session.claims:
            self.counts["claims"] += 1
            session.claims.add(token)
            if session.state is ConsumerState.RESTING:
                session.happen(ConsumerEvent.CLAIM)
            if lease.state is LeaseState.LAPSED:
                self._revive(lease)
            if self._tell is not None:
                self._tell_of_claim(lease, session, t)
            if lease.unaware:
                lease.unaware = tuple(peer for peer in lease.unaware if peer != session.peer)
            self.claimed += not lease.claims
            lease.claims += (session.peer,)
            lease.happen(LeaseEvent.CLAIM)
            self._set_lease_timer(lease)
        return True

    def _may_claim(self, lease: Lease, t: float) -> bool:
        """Tells whether anybody may hold the lease again: one that has lapsed may be, but not beyond its maximum age
        (R25)."""
        if lease.state is not LeaseState.LAPSED:
            return True
        # The cause is asked as well as the age, which the lease's timer may reach a float's rounding early.
        return lease.cause not in _FINAL and lease.granted_at + self.config.max_age_s > t

    def _tell_of_claim(self, lease: Lease, session: ConsumerSession, t: float) -> None:
        assert self._tell is not None
        first, revived = lease.claimed_at is None, lease.state is LeaseState.LAPSED
        if first:
            lease.claimed_at = t
        self._tell(LeaseClaimed(lease.token, session.peer, t - lease.granted_at, first, revived))

    def _revive(self, lease: Lease) -> None:
        # Its blocks may be given away at this very moment: then the engine says `cleared`, and all claimants are told.
        self.counts["revivals"] += 1
        self._effects.append(Revive(lease.token))

    def _drop(self, session: ConsumerSession, token: int, t: float) -> None:
        """The consumer does not need the lease any more. The token is the permission, even if no claim ever came."""
        self.counts["drops"] += 1
        lease = self.leases.get(token)
        if lease is not None and lease.unaware:
            # It lets go of the lease itself, so it need not hear of the end: that would have it state all claims again.
            lease.unaware = tuple(peer for peer in lease.unaware if peer != session.peer)
        if lease is None or lease.state is LeaseState.LAPSED:
            self.counts["late.drop"] += 1
            return
        self._unclaim(session, lease, t)
        if not lease.claims:
            self._lapse(lease, LeaseEvent.RELEASE, t)

    def _on_bye(self, peer: int, bye: Bye, t: float) -> None:
        session = self.sessions.get(peer)
        if session is None or bye.seq <= session.seq:
            self.counts["late.stale"] += 1
            return
        for token in list(session.claims):
            self._drop(session, token, t)
        if session.state is not ConsumerState.DEAD:
            self._effects.append(Disconnect(peer))
        self._end_session(session, ConsumerEvent.BYE, t)

    # -- what time does ------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Returns the time at which `advance` has something to do, unless something arrives before; None for never.

        The owner calls `advance` before that as well, at least every `Timing.lag_tolerance_s`, since a longer gap is a
        pause (R26); or it says with `was_awake` that there was none.
        """
        if not self.leases and not self.sessions:
            return None
        least = None
        for timers in (self._lease_timers, self._session_timers, self._probe_timers, self._restate_timers):
            due = timers.next_due()
            if due is not None and (least is None or due < least):
                least = due
        return None if least is None else least + self._clock.forgiven_s

    def was_awake(self, now: float) -> None:
        """Notes that there was no pause up to `now`, as an owner of many lessors may know without calling each."""
        self._clock.was_awake(now)

    def advance(self, now: float) -> None:
        """Ends what is over and probes consumers that were sent nothing. Call it after all arrived messages."""
        t = self._clock.read(now)
        if self._gone:
            self._tell_gone(t)
        if not self.leases and not self.sessions:
            return
        for peer in self._restate_timers.take_due(t):
            self._drop_unstated(self.sessions[peer], t)
        for peer in self._session_timers.take_due(t):
            self._session_due(self.sessions[peer], t)
        for token in self._lease_timers.take_due(t):
            self._lease_due(self.leases[token], t)
        for peer in self._probe_timers.take_due(t):
            self._send(self.sessions[peer], Probe(), t)

    def _tell_gone(self, t: float) -> None:
        """Tells consumers which of their leases have ended. If that is lost, they learn of it when they state all
        claims again (R20)."""
        told, self._gone = self._gone, {}
        for peer, tokens in told.items():
            session = self.sessions.get(peer)
            if session is None:
                continue
            session.reopen = True
            for part in split(tokens):
                self._send(session, Gone(part), t)

    def _drop_unstated(self, session: ConsumerSession, t: float) -> None:
        for token in session.unstated & session.claims:
            lease = self.leases[token]
            self._unclaim(session, lease, t)
            self._expire_unclaimed(lease, t)
        session.unstated = set()

    def _session_due(self, session: ConsumerSession, t: float) -> None:
        if session.deadline > t:
            # The deadline has moved since the timer was set.
            self._look_at(session, session.deadline)
            return
        if session.state is ConsumerState.ACTIVE:
            self._void_claims(session, t)
            return
        if session.state is ConsumerState.DEAD:
            self._orphan(session, t)
        else:
            self._effects.append(Disconnect(session.peer))
        self._end_session(session, ConsumerEvent.TIMEOUT, t)

    def _orphan(self, session: ConsumerSession, t: float) -> None:
        """Ends a dead consumer's leases that nobody has taken over, even if the term of their grant still runs."""
        for token in list(session.claims):
            lease = self.leases[token]
            self._unclaim(session, lease, t)
            if not lease.claims:
                self._lapse(lease, LeaseEvent.ORPHAN, t)

    def _void_claims(self, session: ConsumerSession, t: float) -> None:
        """Voids the claims of a consumer that stopped renewing. Its session stays: if it wakes, it states its claims
        again, and those whose blocks are still there live again."""
        self.counts["silences"] += 1
        if self._tell is not None:
            self._tell(ConsumerSilent(session.peer, len(session.claims)))
        for token in list(session.claims):
            lease = self.leases[token]
            self._unclaim(session, lease, t)
            self._note_unaware(lease, session.peer)
            self._expire_unclaimed(lease, t)
        session.reopen = True

    def _note_unaware(self, lease: Lease, *peers: int) -> None:
        """Notes consumers that are to be told of the lease's end. Those whose sessions are over need not be (R12)."""
        lease.unaware = (*(peer for peer in lease.unaware if peer in self.sessions), *peers)

    def _expire_unclaimed(self, lease: Lease, t: float) -> None:
        """Ends a lease whose last claim is void, unless the term of its grant still runs."""
        if lease.claims:
            return
        if lease.deadline > t:
            lease.happen(LeaseEvent.UNCLAIM)
            self._set_lease_timer(lease)
        else:
            self._lapse(lease, LeaseEvent.EXPIRE, t)

    def _lease_due(self, lease: Lease, t: float) -> None:
        # A claimed lease's timer is its age: comparing the floats again could fail by their rounding.
        if not lease.claims and lease.granted_at + self.config.max_age_s > t:
            self._lapse(lease, LeaseEvent.EXPIRE, t)
            return
        # Those that claim it are not told yet: what they read is right until its blocks are given to others.
        self._note_unaware(lease, *lease.claims)
        self._lapse(lease, LeaseEvent.AGE, t)

    # -- who asks ------------------------------------------------------------------------------------------------

    def snapshot(self) -> LessorSnapshot:
        """Returns all that this half knows."""
        timers = {
            "leases": self._lease_timers,
            "sessions": self._session_timers,
            "probes": self._probe_timers,
            "restatements": self._restate_timers,
        }
        return LessorSnapshot(
            self.incarnation,
            tuple(lease.snapshot() for lease in self.leases.values()),
            tuple(session.snapshot() for session in self.sessions.values()),
            {name: queue.snapshot() for name, queue in timers.items()},
            self.claimed,
            len(self._effects),
        )

    # -- how it is kept ------------------------------------------------------------------------------------------

    def _live(self, token: int) -> Lease | None:
        """Returns the lease while somebody holds it, else None."""
        lease = self.leases.get(token)
        return None if lease is None or lease.state is LeaseState.LAPSED else lease

    def _set_lease_timer(self, lease: Lease) -> None:
        oldest = lease.granted_at + self.config.max_age_s
        self._lease_timers.set(lease.token, oldest if lease.claims else min(lease.deadline, oldest))

    def _extend_session(self, session: ConsumerSession, t: float) -> None:
        # A session without claims is kept for longer: its consumer may claim again at any time.
        idle_s = 0.0 if session.claims else self.timing.session_idle_s
        self._set_deadline(session, t + max(self.config.extension_s, idle_s))

    def _set_deadline(self, session: ConsumerSession, deadline: float) -> None:
        session.deadline = deadline
        if deadline < session.looked_at or session.peer not in self._session_timers:
            self._look_at(session, deadline)

    def _look_at(self, session: ConsumerSession, deadline: float) -> None:
        session.looked_at = deadline
        self._session_timers.set(session.peer, deadline)

    def _unclaim(self, session: ConsumerSession, lease: Lease, t: float) -> None:
        session.claims.discard(lease.token)
        session.unstated.discard(lease.token)
        if lease.claims:
            lease.claims = tuple(peer for peer in lease.claims if peer != session.peer)
            self.claimed -= not lease.claims
        if session.state is ConsumerState.ACTIVE and not session.claims:
            session.happen(ConsumerEvent.UNCLAIM)
            # A session at rest is not probed: its consumer's death would free nothing, and a fleet has many of them.
            self._probe_timers.discard(session.peer)
            self._extend_session(session, t)

    def _detach(self, lease: Lease, t: float) -> None:
        self._lease_timers.discard(lease.token)
        for peer in lease.claims:
            self._unclaim(self.sessions[peer], lease, t)

    def _lapse(self, lease: Lease, event: LeaseEvent, t: float) -> None:
        """Ends the hold of the lease: its blocks can be given to others, once its word is clear (S2)."""
        self._detach(lease, t)
        cause = lease.cause = lease.happen(event)
        assert cause is not None
        self.counts[f"ends.{cause}"] += 1
        if self._tell is not None:
            claimed_s = None if lease.claimed_at is None else t - lease.claimed_at
            self._tell(LeaseLapsed(lease.token, cause, t - lease.granted_at, claimed_s))
        self._effects.append(Lapse(lease.token, cause))

    def _tell_of(self, session: ConsumerSession, event: ConsumerEvent) -> None:
        if self._tell is not None:
            self._tell(ConsumerChanged(session.peer, session.engine_id, event, len(session.claims)))

    def _end_session(self, session: ConsumerSession, event: ConsumerEvent, t: float) -> None:
        self._tell_of(session, event)
        for token in list(session.claims):
            self._unclaim(session, self.leases[token], t)
        session.happen(event)
        del self.sessions[session.peer]
        for timers in (self._session_timers, self._probe_timers, self._restate_timers):
            timers.discard(session.peer)
        self.counts["sessions_closed"] += 1

    def _send(self, session: ConsumerSession, message: Welcome | Ack | Gone | Probe, t: float) -> None:
        if session.state is ConsumerState.DEAD:
            return
        self._effects.append(Send(session.peer, message))
        if session.claims:
            self._probe_timers.set(session.peer, t + self.config.probe_interval_s)
