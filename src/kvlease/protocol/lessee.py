"""The consumer's half of the protocol: what is still wanted, from whom, and what is lost.

Pure: no I/O, no thread, no clock. Every entry takes `now` (monotonic seconds); what is to be done is collected by
`take_effects`. There is one session for each producer incarnation, and its leases are renewed together with one small
message (R5, R21).

What changed is sent in a **window** that is repeated, under a new seq each time, until any of its copies is
acknowledged; only then comes the next one. So loss, repetition and reordering are harmless (S4), and 10,000 claims are
with the producer after a dozen round trips.
"""

import re
from collections import Counter, OrderedDict

from kvlease.protocol.card import LeaseCard
from kvlease.protocol.clock import ExpiryQueue
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lose, Send
from kvlease.protocol.lease import LeaseRef
from kvlease.protocol.messages import (
    MAX_ENGINE_ID_CHARS,
    TOKENS_PER_MESSAGE,
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
from kvlease.protocol.tracking import Endpoint, Phase, Session, Standing, Tracked, Window

RETRY_S = 0.25
"""After this long without an answer a message is sent again; a round trip takes well under a tenth of it."""
TRIES = 4
"""Unanswered copies after which the session is opened anew."""
BACKOFF_MAX_S = 2.0
"""The longest pause between attempts to reach a producer that does not answer."""
IDLE_S = 30.0
"""How long a session without leases is kept open for the next request."""
MAX_UNANSWERED = 3 * TRIES
"""Copies whose answers are waited for: an honest producer leaves fewer unanswered. The oldest are given up."""
MAX_DROPS = 1 << 14
"""Drops kept for a producer that does not hear them. The oldest are given up: its own clock will do."""
SIBLING_LINGER_S = 0.5
"""How long a lease outlives its last known holder when that holder has siblings (n > 1), which may still be on their
way from the API server (R24)."""
PAUSED_AFTER_S = 0.5
"""An engine with leased requests makes one step upon the other; one that is between two of them for so long is paused.
Were it a hiccup, nothing is lost: its next step is followed by a renewal, well within the extension."""
# vLLM names the children of a request with n > 1 by their index: "2_cmpl-…".
_SIBLING = re.compile(r"\d+_.")


class Lessee:
    """Tracks the leases of local requests at their producers. Not thread-safe: one thread owns it."""

    def __init__(self, engine_id: str, incarnation: int, address: bytes, stall_limit_s: float, now: float) -> None:
        self.incarnation = incarnation
        self.counts: Counter[str] = Counter()
        """Events since the start: tracked, renewals, lost, sessions_opened, late.<what>, refused.<what>, and so on."""
        self.sessions: dict[int, Session] = {}
        self._engine_id = engine_id[:MAX_ENGINE_ID_CHARS]
        self._address = address
        self._stall_limit_s = stall_limit_s
        self._progress_at = now
        self._stepping = True
        self._withheld: set[int] = set()
        """Producers that were not renewed, since the engine stands still."""
        self._lease_of: dict[str, tuple[int, int]] = {}
        self._lost: set[str] = set()
        self._timers: ExpiryQueue[int] = ExpiryQueue(now)
        self._lingering: ExpiryQueue[tuple[int, int]] = ExpiryQueue(now)
        self._seq = 0
        self._effects: list[Effect] = []

    def take_effects(self) -> list[Effect]:
        """What is to be done, in this order; each is handed out once."""
        effects, self._effects = self._effects, []
        return effects

    # -- what the engine says ------------------------------------------------------------------------------------

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, now: float) -> None:
        """The local request `holder` wants this lease; from here on it is renewed (R8).

        `endpoint` is the host and port of the producer's side channel.
        """
        if holder in self._lease_of or holder in self._lost:
            self.counts["refused.tracked_twice"] += 1
            return
        session = self.sessions.get(ref.incarnation)
        if session is None:
            session = self.sessions[ref.incarnation] = Session(ref.incarnation, endpoint)
        tracked = session.leases.get(ref.token)
        if tracked is None:
            tracked = session.leases[ref.token] = Tracked(endpoint)
            session.pending[ref.token] = True
            self._soon(session)
        if session.phase is Phase.SEEKING and endpoint not in session.places:
            session.place(endpoint, now)
            if not session.fetching:
                self._timers.hasten(ref.incarnation)
        self._lingering.discard((ref.incarnation, ref.token))
        session.wanted_at = now
        tracked.holders.add(holder)
        if not self._lease_of:
            # An engine that was idle makes no steps; one that takes a request on is not wedged. (A paused one that
            # takes another on stays paused.)
            self._progress_at = max(self._progress_at, now)
        self._lease_of[holder] = (ref.incarnation, ref.token)
        self.counts["tracked"] += 1

    def untrack(self, holder: str, now: float) -> None:
        """The request has its data, or does not want it any more; a no-op for a request that is not tracked."""
        self._lost.discard(holder)
        key = self._lease_of.pop(holder, None)
        if key is None:
            return
        tracked = self.sessions[key[0]].leases[key[1]]
        tracked.holders.discard(holder)
        if tracked.holders:
            return
        if _SIBLING.match(holder):
            self._lingering.set(key, now + SIBLING_LINGER_S)
        else:
            self._let_go(key)

    def progress(self, at: float, *, stepping: bool = True) -> None:
        """The engine began its latest step at `at`, or (not `stepping`) has ended it then and begun no other.

        An engine that stands still stops renewing: in one step for longer than the stall limit (R25), or between two
        of them for longer than it takes to begin one, since it is paused (vllm 41180, 58041). It goes on at once when
        the engine does.
        """
        self._stepping = stepping
        if at <= self._progress_at:
            return
        self._progress_at = at
        for producer in self._withheld & self.sessions.keys():
            self._timers.hasten(producer)
        self._withheld.clear()

    def standing(self, holder: str, now: float) -> Standing | None:
        """What is known of this request's lease; None when it is not tracked."""
        if holder in self._lost:
            return Standing.LOST
        key = self._lease_of.get(holder)
        if key is None:
            return None
        session = self.sessions[key[0]]
        held = session.leases[key[1]].acknowledged and now < session.held_until
        return Standing.HELD if held else Standing.TRACKED

    def close(self) -> None:
        """The engine shuts down: say Bye to every producer."""
        for session in list(self.sessions.values()):
            for token in list(session.leases):
                self._forget(session, token)
            self._leave(session)

    # -- what producers say --------------------------------------------------------------------------------------

    def receive(self, producer: int, message: FromProducer, now: float) -> None:
        """A message of the producer whose incarnation is `producer`."""
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
                if session.phase is Phase.OPEN and session.idle:
                    # The next renewal, which would find it idle, may be as far away as this producer likes.
                    self._timers.set(producer, now + IDLE_S)
            case Bye(seq) if seq:
                # Of the peer's other half, our consumer: the lessor of this engine hears it.
                pass
            case Bye():
                for token in list(session.leases):
                    self._lose(session, token)
                self._end(session)
            case Probe():
                # It did its work when it was sent: the producer's transport knows whether we live.
                pass

    def card_fetched(self, endpoint: Endpoint, card: LeaseCard | None, now: float) -> None:
        """The answer to a `Fetch`: the card served at `endpoint`, or None when nobody answered."""
        for session in [s for s in self.sessions.values() if s.fetching and s.endpoint == endpoint]:
            session.fetching = False
            if card is None:
                self.counts["fetches_failed"] += 1
                self._seek(session, now)
            elif card.incarnation != session.producer or not card.speaks_our_version:
                self._lose_at(session, endpoint)
                self._seek(session, now)
            else:
                session.phase = Phase.GREETING
                self._effects.append(Connect(session.producer, card.address))
                self._greet(session, now)

    def peer_lost(self, producer: int, now: float) -> None:
        """The transport cannot reach this producer. Dead or cut off: look for it again while somebody wants it."""
        session = self.sessions.get(producer)
        if session is None or session.phase is Phase.SEEKING:
            return
        self.counts["producers_lost"] += 1
        self._effects.append(Disconnect(producer))
        self._seek(session, now)

    def _on_welcome(self, session: Session, welcome: Welcome, now: float) -> None:
        if session.phase is not Phase.GREETING or welcome.hello_seq not in session.sent_at:
            self.counts["late.stale"] += 1
            return
        session.phase = Phase.OPEN
        session.tries = 0
        session.places.clear()
        session.number = welcome.session
        session.sent_at.clear()
        session.extension_s = welcome.extension_ms / 1000
        session.interval_s = min(welcome.interval_ms / 1000, session.extension_s / 2)
        self.counts["sessions_opened"] += 1
        self._restate(session)
        self._timers.set(session.producer, now)

    def _restate(self, session: Session) -> None:
        """After a Hello the producer wants to hear every claim again. Drops that it may not have heard are kept."""
        drops = [token for token, claimed in session.pending.items() if not claimed]
        if session.window is not None:
            drops += session.window.drops
        session.window = None
        for tracked in session.leases.values():
            tracked.acknowledged = False
        session.pending = OrderedDict.fromkeys(drops, False) | OrderedDict.fromkeys(session.leases, True)

    def _on_ack(self, session: Session, ack: Ack, now: float) -> None:
        sent_at = session.sent_at.get(ack.seq)
        if session.phase is not Phase.OPEN or sent_at is None:
            self.counts["late.stale"] += 1
            return
        session.tries = 0
        session.held_until = max(session.held_until, sent_at + session.extension_s)
        session.sent_at = {seq: at for seq, at in session.sent_at.items() if seq > ack.seq}
        for token in ack.unknown:
            self._lose(session, token)
        if session.window is not None and ack.seq >= session.window.first_seq:
            for token in session.window.claims:
                if (tracked := session.leases.get(token)) is not None:
                    tracked.acknowledged = True
            session.window = None
        if ack.reopen:
            for tracked in session.leases.values():
                tracked.acknowledged = False
            session.phase = Phase.GREETING
            self._greet(session, now)
        elif session.window is None:
            pause_s = session.interval_s if session.leases else IDLE_S
            self._timers.set(session.producer, now if session.pending else sent_at + pause_s)

    # -- what time does ------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `advance` has something to do next, if nothing comes before; None while there is nothing to wait for."""
        dues = [due for timers in (self._timers, self._lingering) if (due := timers.next_due()) is not None]
        return min(dues) if dues else None

    def advance(self, now: float) -> None:
        """Send what is due. Call it after all arrived messages were received."""
        for key in self._lingering.take_due(now):
            self._let_go(key)
        for producer in self._timers.take_due(now):
            session = self.sessions[producer]
            if session.leases:
                session.wanted_at = now
            elif now - session.wanted_at > IDLE_S:
                # Only drops are left, and it does not acknowledge them.
                self._leave(session)
                continue
            match session.phase:
                case Phase.SEEKING:
                    self._fetch(session)
                case Phase.GREETING:
                    self._greet(session, now)
                case Phase.OPEN:
                    self._serve(session, now)

    def _fetch(self, session: Session) -> None:
        tried = all(place.failures >= TRIES for place in session.places.values())
        if session.idle or (tried and not session.leases):
            # Nobody here wants anything of it; what drops it has not heard of, its own clock will do.
            self._end(session)
        elif not session.fetching:
            session.fetching = True
            session.endpoint = session.next_place()
            self._effects.append(Fetch(session.endpoint))

    def _greet(self, session: Session, now: float) -> None:
        if session.tries >= TRIES:
            self._effects.append(Disconnect(session.producer))
            self._seek(session, now)
            return
        hello = Hello(VERSION, self.incarnation, self._stamp(session, now), self._engine_id, self._address)
        self._effects.append(Send(session.producer, hello))

    def _serve(self, session: Session, now: float) -> None:
        if session.idle:
            self._leave(session)
        elif session.tries >= TRIES:
            session.phase = Phase.GREETING
            session.tries = 0
            self._greet(session, now)
        elif session.leases and self._stands_still(now):
            # Its producers should have their memory back. (One that wants nothing is idle, and may drop.)
            self.counts["renewals_withheld"] += 1
            self._withheld.add(session.producer)
            self._timers.set(session.producer, now + session.interval_s)
        else:
            self._renew(session, now)

    def _stands_still(self, now: float) -> bool:
        return now - self._progress_at > (self._stall_limit_s if self._stepping else PAUSED_AFTER_S)

    def _renew(self, session: Session, now: float) -> None:
        seq = self._stamp(session, now)
        if session.window is None:
            session.window = self._next_window(session, seq)
        self.counts["renewals"] += 1
        renew = Renew(seq, session.window.claims, session.window.drops, session.number)
        self._effects.append(Send(session.producer, renew))

    def _next_window(self, session: Session, seq: int) -> Window:
        changes = [session.pending.popitem(last=False) for _ in range(min(len(session.pending), TOKENS_PER_MESSAGE))]
        claims = [token for token, claimed in changes if claimed]
        return Window(seq, claims, [token for token, claimed in changes if not claimed])

    # -- how it is kept ------------------------------------------------------------------------------------------

    def _stamp(self, session: Session, now: float) -> int:
        """The next seq, noted as sent now, and to be followed by another copy unless it is answered."""
        seq = self._next_seq()
        session.tries += 1
        session.sent_at[seq] = now
        if len(session.sent_at) > MAX_UNANSWERED:
            del session.sent_at[min(session.sent_at)]
        # A lost message must be repeated well before the next renewal is due, however short the term.
        retry_s = min(RETRY_S, session.interval_s / 2) if session.phase is Phase.OPEN else RETRY_S
        self._timers.set(session.producer, now + retry_s)
        return seq

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _soon(self, session: Session) -> None:
        """There is something to say: at once, unless an answer is being waited for."""
        if session.phase is Phase.OPEN and session.window is None:
            self._timers.hasten(session.producer)

    def _let_go(self, key: tuple[int, int]) -> None:
        session = self.sessions[key[0]]
        del session.leases[key[1]]
        session.pending[key[1]] = False
        if len(session.pending) > len(session.leases) + MAX_DROPS:
            del session.pending[next(token for token, claimed in session.pending.items() if not claimed)]
        self._soon(session)

    def _lose(self, session: Session, token: int) -> None:
        if token not in session.leases:
            self.counts["late.token"] += 1
            return
        self.counts["lost"] += 1
        for holder in self._forget(session, token):
            self._lost.add(holder)
            self._effects.append(Lose(holder))

    def _forget(self, session: Session, token: int) -> list[str]:
        """Stop tracking the lease; returns who held it."""
        holders = sorted(session.leases.pop(token).holders)
        session.pending.pop(token, None)
        self._lingering.discard((session.producer, token))
        for holder in holders:
            del self._lease_of[holder]
        return holders

    def _lose_at(self, session: Session, endpoint: Endpoint) -> None:
        """Another incarnation lives at `endpoint` and honours none of the old leases (R22)."""
        for token, tracked in list(session.leases.items()):
            if tracked.endpoint == endpoint:
                self._lose(session, token)
        if not session.leases:
            session.pending.clear()
            session.window = None

    def _seek(self, session: Session, now: float) -> None:
        """Look for it (again): at once where it was found last, then ever more slowly in each place."""
        if (place := session.places.get(session.endpoint)) is None:
            session.place(session.endpoint, now)
        else:
            pause_s = RETRY_S * 2 ** (place.failures - 1) if place.failures else 0.0
            place.due, place.failures = now + min(pause_s, BACKOFF_MAX_S), min(place.failures + 1, 16)
        for tracked in session.leases.values():
            session.place(tracked.endpoint, now)
        session.phase = Phase.SEEKING
        session.tries = 0
        session.sent_at.clear()
        self._timers.set(session.producer, session.places[session.next_place()].due)

    def _leave(self, session: Session) -> None:
        """Nobody here wants anything of this producer any more."""
        if session.phase is Phase.OPEN:
            self._effects.append(Send(session.producer, Bye(self._next_seq())))
        self._end(session)

    def _end(self, session: Session) -> None:
        if session.phase is not Phase.SEEKING:
            self._effects.append(Disconnect(session.producer))
        self._timers.discard(session.producer)
        del self.sessions[session.producer]
