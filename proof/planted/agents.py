"""Bugs that are planted in the turn of an agent, and in how it uses its transport."""

from collections.abc import Iterable, Iterator
from typing import Any

from kvlease.agent import core
from kvlease.protocol import Peer
from kvlease.protocol.clock import ForgivingClock
from kvlease.protocol.effects import Effect
from kvlease.protocol.said import Said
from proof.planted.bug import Replacement, planted


class _NoError(Exception):
    """An error that nobody raises."""


@planted("R26", within_runs=300, stands_for="protocol, deadlines; Lifeguard: a slow detector suspects others")
def pause_held_against_consumers() -> Iterator[Replacement]:
    """A producer that stood still counts its pause, and ends what is over before it reads what has arrived."""
    # Either alone does no harm: what has arrived extends the sessions after a pause that counts, and a pause that is
    # forgiven leaves time to read what has arrived.
    honest = Peer.turn

    def read(self: ForgivingClock, now: float) -> float:
        self._last = max(self._last, now)
        return self._last

    def turn(self: Peer, now: float, *heard: Any) -> list[Effect]:
        self.lessor.advance(now)
        return honest(self, now, *heard)

    yield ForgivingClock, "read", read
    yield Peer, "turn", turn


@planted("L2", "R20", within_runs=200, stands_for="vllm 25808: D asked before P had registered the expiry")
def network_before_engine() -> Iterator[Replacement]:
    """A turn takes what the network brings before what the engine says: a claim may come before its grant."""
    honest = Peer.turn

    def turn(self: Peer, now: float, said: Iterable[Said], arrived: Any, *more: Any) -> list[Effect]:
        for peer, message in arrived:
            self._receive(peer, message, now)
        return honest(self, now, said, (), *more)

    yield Peer, "turn", turn


@planted("error", within_runs=100, stands_for="smg 2382, vllm 58063: a peer's message ends the engine; R11")
def malformed_message_ends_the_agent() -> Iterator[Replacement]:
    """Bytes that are no message end whoever takes the turns."""
    yield core, "BadMessage", _NoError


@planted("L1", "L2", within_runs=300, stands_for="vllm-backport 33: failed heartbeats were logged at debug only")
def failed_sends_ignored() -> Iterator[Replacement]:
    """Nobody is told when the transport says that a peer is gone."""

    def lost(_self: Peer, _peer: int, _now: float) -> list[Effect]:
        return []

    yield Peer, "lost", lost
