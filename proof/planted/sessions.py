"""Bugs that are planted in what both halves make of late, repeated and lost messages (docs/decisions/0004)."""

import dataclasses
from collections.abc import Iterator

from msgspec.structs import replace

from kvlease.protocol import Lessee, Lessor
from kvlease.protocol.effects import Effect, Send
from kvlease.protocol.lease import Lease
from kvlease.protocol.messages import Ack, FromConsumer, Renew, Welcome
from kvlease.protocol.states import ProducerEvent, ProducerState
from kvlease.protocol.tracking import ProducerSession
from proof.planted.bug import Replacement, honest, planted


@planted("L2", "S4", within_runs=1000, stands_for="S4: a late message changes nothing that a later one settled")
def stale_seq_applied() -> Iterator[Replacement]:
    """A consumer's Hello, Renew or Bye counts, however old it is."""
    original = honest(Lessor, "receive")

    def receive(self: Lessor, peer: int, message: FromConsumer, now: float) -> None:
        session = self.sessions.get(peer)
        latest = -1
        if session is not None:
            latest, session.seq = session.seq, -1
        original(self, peer, message, now)
        if session is not None:
            session.seq = max(latest, session.seq)

    yield Lessor, "receive", receive


def _renewal(sent: Effect) -> tuple[int, Renew]:
    """The peer that was sent a renewal, and the renewal."""
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Renew)
    return sent.peer, sent.message


@planted("L2", "S4", within_runs=150, stands_for="protocol, renewing: deltas are repeated until acknowledged")
def no_retransmission() -> Iterator[Replacement]:
    """A consumer says once what changed; further copies of a renewal carry nothing."""
    original = honest(Lessee, "_renew")

    def renew(self: Lessee, session: ProducerSession, now: float) -> None:
        original(self, session, now)
        peer, message = _renewal(self._effects[-1])
        if session.window is not None and message.seq != session.window.first_seq:
            self._effects[-1] = Send(peer, replace(message, claims=[], drops=[]))

    yield Lessee, "_renew", renew


@planted("L2", within_runs=None, stands_for="protocol, renewing: repeated until acknowledged")
def ack_of_any_seq_settles() -> Iterator[Replacement]:
    """An Ack of an earlier window is taken for that of this one."""
    original = honest(Lessee, "_on_ack")

    def on_ack(self: Lessee, session: ProducerSession, ack: Ack, now: float) -> None:
        if session.window is not None:
            session.window = dataclasses.replace(session.window, first_seq=0)
        original(self, session, ack, now)

    yield Lessee, "_on_ack", on_ack


@planted("L2", within_runs=200, stands_for="docs/decisions/0004: after a Hello, all claims are stated again")
def claims_not_restated() -> Iterator[Replacement]:
    """A consumer does not state again, after a Hello, what the producer had acknowledged before."""
    original = honest(ProducerSession, "restate")

    def restate(self: ProducerSession) -> None:
        acknowledged = [token for token, wanted in self.leases.items() if wanted.acknowledged]
        original(self)
        for token in acknowledged:
            self.leases[token].acknowledged = True
            del self.pending[token]

    yield ProducerSession, "restate", restate


@planted("L2", within_runs=300, stands_for="docs/decisions/0004: a consumer that slept was told that all is well")
def reopen_ignored() -> Iterator[Replacement]:
    """A consumer does not hear that claims of its session were ended."""
    original = honest(Lessee, "_on_ack")

    def on_ack(self: Lessee, session: ProducerSession, ack: Ack, now: float) -> None:
        original(self, session, replace(ack, reopen=False), now)

    yield Lessee, "_on_ack", on_ack


@planted("L2", within_runs=10, stands_for="vllm 21570: D cannot know that P timed out; R20")
def unknown_tokens_ignored() -> Iterator[Replacement]:
    """A consumer does not hear that its producer does not hold what it claims."""
    original = honest(Lessee, "_on_ack")

    def on_ack(self: Lessee, session: ProducerSession, ack: Ack, now: float) -> None:
        original(self, session, replace(ack, unknown=[]), now)

    yield Lessee, "_on_ack", on_ack


@planted(
    "L2", "S4", within_runs=1000, stands_for="Gray and Cheriton 1989: a holder's clock must begin before the grantor's"
)
def held_from_the_answer_on() -> Iterator[Replacement]:
    """A consumer counts its extension from the arrival of the Ack, and not from the sending of what it answers."""
    original = honest(Lessee, "_on_ack")

    def on_ack(self: Lessee, session: ProducerSession, ack: Ack, now: float) -> None:
        counts = ack.seq in session.sent_at
        original(self, session, ack, now)
        if counts:
            session.held_until = now + session.extension_s

    yield Lessee, "_on_ack", on_ack


@planted("L2", within_runs=10, stands_for="vllm 53095, 53244: renewals under an id that P does not know")
def heartbeat_id_mismatch() -> Iterator[Replacement]:
    """Renewals name the leases by what is not their token."""
    original = honest(Lessee, "_renew")

    def renew(self: Lessee, session: ProducerSession, now: float) -> None:
        original(self, session, now)
        peer, message = _renewal(self._effects[-1])
        self._effects[-1] = Send(peer, replace(message, claims=[token ^ 1 for token in message.claims]))

    yield Lessee, "_renew", renew


@planted("R12", "error", within_runs=50, stands_for="protocol/states.py: what a table does not know cannot happen")
def release_of_what_has_lapsed() -> Iterator[Replacement]:
    """A producer takes a stock consumer's word that it has read, or its heartbeat, for a lease that has lapsed."""

    def live(self: Lessor, token: int) -> Lease | None:
        return self.leases.get(token)

    yield Lessor, "_live", live


@planted("error", within_runs=50, stands_for="protocol/states.py: what a table does not know cannot happen")
def welcome_at_any_time() -> Iterator[Replacement]:
    """A consumer takes any Welcome for the answer to its Hello, whatever it waits for."""
    original = honest(Lessee, "_on_welcome")

    def on_welcome(self: Lessee, session: ProducerSession, welcome: Welcome, now: float) -> None:
        if session.state is ProducerState.GREETING:
            original(self, session, welcome, now)
        else:
            session.happen(ProducerEvent.WELCOME)

    yield Lessee, "_on_welcome", on_welcome
