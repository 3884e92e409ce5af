"""Planted in what both halves make of messages that come late, twice or not at all (docs/decisions/0004)."""

import dataclasses
from collections.abc import Iterator

from msgspec.structs import replace

from kvlease.protocol import Lessee, Lessor
from kvlease.protocol.effects import Send
from kvlease.protocol.lessor import Session
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Renew
from kvlease.protocol.messages import FromProducer as Message
from kvlease.protocol.tracking import Session as ConsumerSession
from kvlease.sim.planted.bug import Replacement, planted


@planted("S4", "L2", within_runs=50, stands_for="S4: a late message changes nothing that a later one settled")
def stale_renewal_applied() -> Iterator[Replacement]:
    """Claims and drops of a renewal count, however old it is."""
    honest = Lessor._on_renew

    def on_renew(self: Lessor, peer: int, renew: Renew, t: float) -> None:
        session = self.sessions.get(peer)
        latest = -1
        if session is not None:
            latest, session.seq = session.seq, -1
        honest(self, peer, renew, t)
        if session is not None:
            session.seq = max(latest, session.seq)

    yield Lessor, "_on_renew", on_renew


@planted("S4", "L2", within_runs=50, stands_for="S4; docs/decisions/0004: a late Hello")
def stale_hello_applied() -> Iterator[Replacement]:
    """A late Hello reopens the session: what is not stated again lapses."""
    honest = Lessor._on_hello

    def on_hello(self: Lessor, peer: int, hello: Hello, t: float) -> None:
        session = self.sessions.get(peer)
        if session is not None:
            session.seq = -1
        honest(self, peer, hello, t)

    yield Lessor, "_on_hello", on_hello


@planted("S4", "L2", within_runs=50, stands_for="docs/decisions/0004: a late Bye ended the session opened after it")
def late_bye_ends_a_new_session() -> Iterator[Replacement]:
    """A Bye counts, however old it is."""
    honest = Lessor._on_bye

    def on_bye(self: Lessor, peer: int, bye: Bye) -> None:
        session = self.sessions.get(peer)
        if session is not None:
            session.seq = -1
        honest(self, peer, bye)

    yield Lessor, "_on_bye", on_bye


@planted(
    "S4", "L2", within_runs=50, stands_for="docs/decisions/0004: an Ack confirmed leases that had ended long before"
)
def session_number_ignored() -> Iterator[Replacement]:
    """A renewal counts in whatever session its sender has, were it opened by an old Hello."""
    honest = Lessor._on_renew

    def on_renew(self: Lessor, peer: int, renew: Renew, t: float) -> None:
        session = self.sessions.get(peer)
        honest(self, peer, renew if session is None else replace(renew, session=session.number), t)

    yield Lessor, "_on_renew", on_renew


@planted("S4", "L3", within_runs=50, stands_for="docs/decisions/0004: old claims in a session that nobody wanted")
def unstated_claims_kept() -> Iterator[Replacement]:
    """Claims that a consumer does not state again after its Hello are kept."""

    def drop_unstated(_self: Lessor, session: Session, _t: float) -> None:
        session.unstated = set()

    yield Lessor, "_drop_unstated", drop_unstated


@planted("L2", within_runs=50, stands_for="protocol.md, Messages: deltas are repeated until acknowledged")
def no_retransmission() -> Iterator[Replacement]:
    """What changed is said once; further copies of a renewal carry nothing."""
    honest = Lessee._renew

    def renew(self: Lessee, session: ConsumerSession, now: float) -> None:
        honest(self, session, now)
        sent = self._effects[-1]
        assert isinstance(sent, Send)
        assert isinstance(sent.message, Renew)
        if session.window is not None and sent.message.seq != session.window.first_seq:
            self._effects[-1] = Send(sent.peer, replace(sent.message, claims=[], drops=[]))

    yield Lessee, "_renew", renew


@planted("L2", within_runs=50, stands_for="protocol.md, Messages: repeated until acknowledged")
def ack_of_any_seq_settles() -> Iterator[Replacement]:
    """An Ack of an earlier window is taken for that of this one."""
    honest = Lessee._on_ack

    def on_ack(self: Lessee, session: ConsumerSession, ack: Ack, now: float) -> None:
        if session.window is not None:
            session.window = dataclasses.replace(session.window, first_seq=0)
        honest(self, session, ack, now)

    yield Lessee, "_on_ack", on_ack


@planted("L2", within_runs=50, stands_for="docs/decisions/0004: after a Hello, all claims are stated again")
def claims_not_restated() -> Iterator[Replacement]:
    """After a Hello, what the producer had acknowledged before is not stated again."""
    honest = Lessee._restate

    def restate(self: Lessee, session: ConsumerSession) -> None:
        acknowledged = [token for token, tracked in session.leases.items() if tracked.acknowledged]
        honest(self, session)
        for token in acknowledged:
            session.leases[token].acknowledged = True
            del session.pending[token]

    yield Lessee, "_restate", restate


@planted("S4", "L2", within_runs=50, stands_for="docs/decisions/0004: a consumer that slept was told that all is well")
def reopen_ignored() -> Iterator[Replacement]:
    """A consumer does not hear that claims of its session were ended."""
    honest = Lessee._on_ack

    def on_ack(self: Lessee, session: ConsumerSession, ack: Ack, now: float) -> None:
        honest(self, session, replace(ack, reopen=False), now)

    yield Lessee, "_on_ack", on_ack


@planted("L3", within_runs=50, stands_for="vllm 21570: D cannot know that P timed out; R20")
def unknown_tokens_ignored() -> Iterator[Replacement]:
    """A consumer does not hear that its producer does not hold what it claims."""
    honest = Lessee._on_ack

    def on_ack(self: Lessee, session: ConsumerSession, ack: Ack, now: float) -> None:
        honest(self, session, replace(ack, unknown=[]), now)

    yield Lessee, "_on_ack", on_ack


@planted("L3", within_runs=50, stands_for="vllm 21570: D cannot know that P timed out; R20")
def gone_ignored() -> Iterator[Replacement]:
    """A consumer does not listen when its producer says that leases are gone."""
    honest = Lessee.receive

    def receive(self: Lessee, producer: int, message: Message, now: float) -> None:
        if not isinstance(message, Gone):
            honest(self, producer, message, now)

    yield Lessee, "receive", receive


@planted("S4", within_runs=50, stands_for="Gray and Cheriton 1989: a holder's clock must begin before the grantor's")
def held_from_the_answer_on() -> Iterator[Replacement]:
    """A consumer counts its extension from the arrival of the Ack, and not from the sending of what it answers."""
    honest = Lessee._on_ack

    def on_ack(self: Lessee, session: ConsumerSession, ack: Ack, now: float) -> None:
        counts = ack.seq in session.sent_at
        honest(self, session, ack, now)
        if counts:
            session.held_until = now + session.extension_s

    yield Lessee, "_on_ack", on_ack


@planted("L2", within_runs=50, stands_for="vllm 53095, 53244: renewals under an id that P does not know")
def heartbeat_id_mismatch() -> Iterator[Replacement]:
    """Renewals name the leases by what is not their token."""
    honest = Lessee._renew

    def renew(self: Lessee, session: ConsumerSession, now: float) -> None:
        honest(self, session, now)
        sent = self._effects[-1]
        assert isinstance(sent, Send)
        assert isinstance(sent.message, Renew)
        misnamed = replace(sent.message, claims=[token ^ 1 for token in sent.message.claims])
        self._effects[-1] = Send(sent.peer, misnamed)

    yield Lessee, "_renew", renew
