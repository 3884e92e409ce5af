"""The consumer's half of the protocol: the leases that are wanted here, their producers, and the leases that are lost.

It is pure: no I/O, no thread, no clock. Its methods take `now` (monotonic seconds); what is to be done is collected by
`take_effects`. There is one session for each producer incarnation, and its leases are renewed together with one small
message (R5, R21).

Changes are sent in a **window** that is repeated, under a new seq each time, until any of its copies is acknowledged;
only then comes the next one. So loss, repetition and reordering are harmless (S4), and 10,000 claims reach the producer
within a dozen round trips.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from kvlease.protocol.card import Endpoint, LeaseCard
from kvlease.protocol.clock import Buckets, ExpiryQueue
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lose, Send
from kvlease.protocol.facts import LeaseHeld, LeaseLetGo, LeaseLost, LeaseWanted, ProducerChanged, RenewalAnswered, Tell
from kvlease.protocol.lease import LeaseRef
from kvlease.protocol.messages import (
    MAX_ENGINE_ID_CHARS,
    VERSION,
    Ack,
    Bye,
    FromProducer,
    Gone,
    Hello,
    Probe,
    Renew,
    Welcome,
)
from kvlease.protocol.states import ProducerEvent, ProducerState
from kvlease.protocol.timing import TIMING, Timing
from kvlease.protocol.tracking import ProducerSession, ProducerView, Standing, WantedLease
from kvlease.protocol.watch import EngineWatch


class LesseeSnapshot(NamedTuple):
    """The state of a consumer's half at a moment."""

    incarnation: int
    sessions: tuple[ProducerView, ...]
    holders: Mapping[str, tuple[int, int]]
    """The lease of each local request: (producer, token)."""
    lost: frozenset[str]
    """The local requests whose lease is lost."""
    timers: Mapping[str, Buckets]
    """The timers by what they end: pauses (of a session), lingering (of a lease without a holder)."""
    effects: int


class Lessee:
    """Tracks the leases of local requests at their producers. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        engine_id: str,
        incarnation: int,
        address: bytes,
        stall_limit_s: float,
        now: float,
        timing: Timing = TIMING,
        tell: Tell | None = None,
    ) -> None:
        self.incarnation = incarnation
        self.timing = timing
        self.counts: Counter[str] = Counter()
        """Events since the start: tracked, renewals, lost, sessions_opened, late.<what>, refused.<what>, and so on."""
        self.sessions: dict[int, ProducerSession] = {}
        self._engine_id = engine_id[:MAX_ENGINE_ID_CHARS]
        self._address = address
        self._engine = EngineWatch(stall_limit_s, timing.paused_after_s, now)
        self._withheld: set[int] = set()
        """The producers to which no renewal was sent, since the engine stands still."""
        self._lease_of: dict[str, tuple[int, int]] = {}
        self._lost: set[str] = set()
        self._timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._lingering: ExpiryQueue[tuple[int, int]] = ExpiryQueue(now)
        self._seq = 0
        self._effects: list[Effect] = []
        self._tell = tell

    def take_effects(self) -> list[Effect]:
        """Returns what is to be done, in this order; each effect is handed out once."""
        effects, self._effects = self._effects, []
        return effects

    # -- what the engine says ------------------------------------------------------------------------------------

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool, now: float) -> None:
        """The local request `holder` wants this lease, which is renewed from now on (R8).

        `endpoint` is the producer's side channel. `siblings`: others of the same request (n > 1) may come for it.
        """
        if holder in self._lease_of or holder in self._lost:
            self.counts["refused.tracked_twice"] += 1
            return
        session = self.sessions.get(ref.incarnation)
        if session is None:
            session = self.sessions[ref.incarnation] = ProducerSession(ref.incarnation, endpoint)
            self._happen(session, ProducerEvent.WANT)
        tracked = session.leases.get(ref.token)
        if tracked is None:
            tracked = session.leases[ref.token] = WantedLease(endpoint)
            session.pending[ref.token] = True
            self._soon(session)
        if session.state is ProducerState.SEEKING and endpoint not in session.places:
            session.place(endpoint, now)
            if not session.fetching:
                self._timers.hasten(ref.incarnation)
        self._lingering.discard((ref.incarnation, ref.token))
        session.wanted_at = now
        tracked.holders.add(holder)
        tracked.lingers |= siblings
        if not self._lease_of:
            self._engine.take_on(now)
        self._lease_of[holder] = (ref.incarnation, ref.token)
        self.counts["tracked"] += 1
        if self._tell is not None:
            self._tell(LeaseWanted(holder, ref.token, ref.incarnation))

    def untrack(self, holder: str, now: float) -> None:
        """The request has its data, or does not need it any more; a no-op for a request that is not tracked."""
        self._lost.discard(holder)
        key = self._lease_of.pop(holder, None)
        if key is None:
            return
        tracked = self.sessions[key[0]].leases[key[1]]
        tracked.holders.discard(holder)
        if tracked.holders:
            return
        if tracked.lingers:
            self._lingering.set(key, now + self.timing.sibling_linger_s)
        else:
            self._let_go(key)

    def progress(self, at: float, *, stepping: bool = True) -> None:
        """The engine began its latest step at `at`, or (not `stepping`) has ended it then and begun no other.

        Nothing is renewed for an engine that stands still (R25); renewals go on as soon as the engine does.
        """
        if not self._engine.hear(at, stepping):
            return
        if self._withheld:
            for producer in self._withheld & self.sessions.keys():
                self._timers.hasten(producer)
            self._withheld.clear()

    def standing(self, holder: str, now: float) -> Standing | None:
        """Returns what is known of this request's lease; None when it is not tracked."""
        if holder in self._lost:
            return Standing.LOST
        key = self._lease_of.get(holder)
        if key is None:
            return None
        session = self.sessions[key[0]]
        held = session.leases[key[1]].acknowledged and now < session.held_until
        return Standing.HELD if held else Standing.TRACKED

    def close(self) -> None:
        """The engine shuts down: says Bye to every producer."""
        for session in list(self.sessions.values()):
            for token in list(session.leases):
                self._forget(session, token)
            self._leave(session)

    # -- what producers say --------------------------------------------------------------------------------------

    def receive(self, producer: int, message: FromProducer, now: float) -> None:
        """Takes a message of the producer whose incarnation is `producer`."""
        session = self.sessions.get(producer)
        if session is None:
            self.counts["late.no_session"] += 1
            return
        match message:
            case Welcome():
                self._on_welcome(session, message, now)
            case Ack():
                self._on_ack(session, message, now)
            case Gone():
                for token in message.tokens:
                    self._lose(session, token)
                if session.state is ProducerState.OPEN and session.idle:
                    # It would be found idle at the next renewal, but the producer chooses how far away that is.
                    self._timers.set(producer, now + self.timing.idle_s)
            case Bye():
                for token in list(session.leases):
                    self._lose(session, token)
                self._end(session, ProducerEvent.BYE)
            case Probe():
                # A Probe needs no answer: when it was sent, the producer's transport learned whether this engine lives.
                pass

    def card_fetched(self, endpoint: Endpoint, card: LeaseCard | None, now: float) -> None:
        """Takes the answer to a `Fetch`: the card served at `endpoint`, or None when nobody answered."""
        for session in [s for s in self.sessions.values() if s.fetching and s.endpoint == endpoint]:
            session.fetching = False
            if card is None:
                self.counts["fetches_failed"] += 1
                self._seek(session, ProducerEvent.NO_CARD, now)
            elif card.incarnation != session.producer or not card.speaks_our_version:
                self._lose_at(session, endpoint)
                self._seek(session, ProducerEvent.NO_CARD, now)
            else:
                self._happen(session, ProducerEvent.CARD)
                self._effects.append(Connect(session.producer, card.address))
                self._greet(session, now)

    def peer_lost(self, producer: int, now: float) -> None:
        """The transport cannot reach this producer, dead or cut off: it is looked for while somebody wants a lease."""
        session = self.sessions.get(producer)
        if session is None or session.state is ProducerState.SEEKING:
            return
        self.counts["producers_lost"] += 1
        self._effects.append(Disconnect(producer))
        self._seek(session, ProducerEvent.LOST, now)

    def _on_welcome(self, session: ProducerSession, welcome: Welcome, now: float) -> None:
        if session.state is not ProducerState.GREETING or welcome.hello_seq not in session.sent_at:
            self.counts["late.stale"] += 1
            return
        self._happen(session, ProducerEvent.WELCOME)
        session.tries = 0
        session.places.clear()
        session.number = welcome.session
        session.sent_at.clear()
        session.extension_s = welcome.extension_ms / 1000
        session.interval_s = min(welcome.interval_ms / 1000, session.extension_s / 2)
        self.counts["sessions_opened"] += 1
        session.restate()
        self._timers.set(session.producer, now)

    def _on_ack(self, session: ProducerSession, ack: Ack, now: float) -> None:
        sent_at = session.sent_at.get(ack.seq)
        if session.state is not ProducerState.OPEN or sent_at is None:
            self.counts["late.stale"] += 1
            return
        session.tries = 0
        if self._tell is not None:
            self._tell(RenewalAnswered(session.producer, now - sent_at))
        session.held_until = max(session.held_until, sent_at + session.extension_s)
        session.sent_at = {seq: at for seq, at in session.sent_at.items() if seq > ack.seq}
        for token in ack.unknown:
            self._lose(session, token)
        if session.window is not None and ack.seq >= session.window.first_seq:
            for token in session.window.claims:
                if (tracked := session.leases.get(token)) is not None:
                    tracked.acknowledged = True
                    if self._tell is not None:
                        self._tell(LeaseHeld(token, session.producer))
            session.window = None
        if ack.reopen:
            for tracked in session.leases.values():
                tracked.acknowledged = False
            self._happen(session, ProducerEvent.REOPEN)
            self._greet(session, now)
        elif session.window is None:
            pause_s = session.interval_s if session.leases else self.timing.idle_s
            self._timers.set(session.producer, now if session.pending else sent_at + pause_s)

    # -- what time does ------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Returns the time at which `advance` has something to do, unless something arrives before; None for never."""
        if not self.sessions:
            return None
        due, lingering = self._timers.next_due(), self._lingering.next_due()
        if due is None:
            return lingering
        return due if lingering is None or due < lingering else lingering

    def advance(self, now: float) -> None:
        """Sends what is due. It is called after all arrived messages were received."""
        if not self.sessions:
            return
        for key in self._lingering.take_due(now):
            self._let_go(key)
        for producer in self._timers.take_due(now):
            session = self.sessions[producer]
            if session.leases:
                session.wanted_at = now
            elif now - session.wanted_at > self.timing.idle_s:
                # Only drops are left, and the producer does not acknowledge them.
                self._leave(session)
                continue
            match session.state:
                case ProducerState.SEEKING:
                    self._fetch(session)
                case ProducerState.GREETING:
                    self._greet(session, now)
                case ProducerState.OPEN:
                    self._serve(session, now)

    def _fetch(self, session: ProducerSession) -> None:
        tried = all(place.failures >= self.timing.tries for place in session.places.values())
        if session.idle or (tried and not session.leases):
            # Nobody here wants a lease of this producer; its own clock ends those whose drops it has not heard.
            self._end(session, ProducerEvent.LEAVE)
        elif not session.fetching:
            session.fetching = True
            session.endpoint = session.next_place()
            self._effects.append(Fetch(session.endpoint))

    def _greet(self, session: ProducerSession, now: float) -> None:
        if session.tries >= self.timing.tries:
            self._effects.append(Disconnect(session.producer))
            self._seek(session, ProducerEvent.SILENCE, now)
            return
        hello = Hello(VERSION, self.incarnation, self._stamp(session, now), self._engine_id, self._address)
        self._effects.append(Send(session.producer, hello))

    def _serve(self, session: ProducerSession, now: float) -> None:
        if session.idle:
            self._leave(session)
        elif session.tries >= self.timing.tries:
            self._happen(session, ProducerEvent.SILENCE)
            session.tries = 0
            self._greet(session, now)
        elif session.leases and self._engine.stands_still(now):
            # The engine stands still, so its producers should have their memory back. (Without leases, drops are sent.)
            self.counts["renewals_withheld"] += 1
            self._withheld.add(session.producer)
            self._timers.set(session.producer, now + session.interval_s)
        else:
            self._renew(session, now)

    def _renew(self, session: ProducerSession, now: float) -> None:
        seq = self._stamp(session, now)
        if session.window is None:
            session.window = session.next_window(seq)
        self.counts["renewals"] += 1
        renew = Renew(seq, session.window.claims, session.window.drops, session.number)
        self._effects.append(Send(session.producer, renew))

    # -- who asks ------------------------------------------------------------------------------------------------

    def snapshot(self) -> LesseeSnapshot:
        """Returns all that this half knows."""
        return LesseeSnapshot(
            self.incarnation,
            tuple(session.snapshot() for session in self.sessions.values()),
            dict(self._lease_of),
            frozenset(self._lost),
            {"pauses": self._timers.snapshot(), "lingering": self._lingering.snapshot()},
            len(self._effects),
        )

    # -- how it is kept ------------------------------------------------------------------------------------------

    def _happen(self, session: ProducerSession, event: ProducerEvent) -> None:
        session.happen(event)
        if self._tell is not None:
            self._tell(ProducerChanged(session.producer, session.endpoint, event))

    def _stamp(self, session: ProducerSession, now: float) -> int:
        """Returns the next seq, notes it as sent now, and sets the timer for a copy in case there is no answer."""
        seq = self._next_seq()
        session.tries += 1
        session.sent_at[seq] = now
        if len(session.sent_at) > self.timing.max_unanswered:
            del session.sent_at[min(session.sent_at)]
        # A lost message must be repeated well before the next renewal is due, however short the term.
        retry_s = self.timing.retry_s
        if session.state is ProducerState.OPEN:
            retry_s = min(retry_s, session.interval_s / 2)
        self._timers.set(session.producer, now + retry_s)
        return seq

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _soon(self, session: ProducerSession) -> None:
        """Has the pending changes sent at once, unless an answer is being waited for."""
        if session.state is ProducerState.OPEN and session.window is None:
            self._timers.hasten(session.producer)

    def _let_go(self, key: tuple[int, int]) -> None:
        session = self.sessions[key[0]]
        if self._tell is not None:
            self._tell(LeaseLetGo(key[1], session.producer))
        del session.leases[key[1]]
        session.pending[key[1]] = False
        if len(session.pending) > len(session.leases) + self.timing.max_drops:
            del session.pending[next(token for token, claimed in session.pending.items() if not claimed)]
        self._soon(session)

    def _lose(self, session: ProducerSession, token: int) -> None:
        if token not in session.leases:
            self.counts["late.token"] += 1
            return
        self.counts["lost"] += 1
        for holder in self._forget(session, token):
            self._lost.add(holder)
            if self._tell is not None:
                self._tell(LeaseLost(holder, token))
            self._effects.append(Lose(holder))

    def _forget(self, session: ProducerSession, token: int) -> list[str]:
        """Stops tracking the lease; returns the requests that held it."""
        holders = sorted(session.leases.pop(token).holders)
        session.pending.pop(token, None)
        self._lingering.discard((session.producer, token))
        for holder in holders:
            del self._lease_of[holder]
        return holders

    def _lose_at(self, session: ProducerSession, endpoint: Endpoint) -> None:
        """Another incarnation lives at `endpoint` and honours none of the old leases (R22)."""
        for token, tracked in list(session.leases.items()):
            if tracked.endpoint == endpoint:
                self._lose(session, token)
        if not session.leases:
            session.pending.clear()
            session.window = None

    def _seek(self, session: ProducerSession, event: ProducerEvent, now: float) -> None:
        """Looks for the producer again: at once where it was found last, then with growing pauses in each place."""
        self._happen(session, event)
        session.tries = 0
        session.sent_at.clear()
        self._timers.set(session.producer, session.look_again(now, self.timing))

    def _leave(self, session: ProducerSession) -> None:
        """Ends a session of whose producer nobody here wants anything any more."""
        if session.state is ProducerState.OPEN:
            self._effects.append(Send(session.producer, Bye(self._next_seq())))
        self._end(session, ProducerEvent.LEAVE)

    def _end(self, session: ProducerSession, event: ProducerEvent) -> None:
        if session.state is not ProducerState.SEEKING:
            self._effects.append(Disconnect(session.producer))
        self._happen(session, event)
        self._timers.discard(session.producer)
        del self.sessions[session.producer]
