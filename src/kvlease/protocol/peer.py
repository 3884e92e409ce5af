"""Both halves of one lease agent's protocol, and the order in which they are told what happened: sans-I/O.

Its input is what the engine said, what has arrived, and the time; its output are effects, to be carried out in their
order. Its owner (an engine's agent, a simulation, an exploration, a test) needs no other rules.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kvlease.protocol.card import Endpoint, LeaseCard
from kvlease.protocol.config import LeaseConfig
from kvlease.protocol.effects import Connect, Disconnect, Effect
from kvlease.protocol.facts import Tell
from kvlease.protocol.lessee import Lessee, LesseeSnapshot
from kvlease.protocol.lessor import Lessor, LessorSnapshot
from kvlease.protocol.messages import Ack, Bye, Gone, Hello, Message, Probe, Renew, Welcome
from kvlease.protocol.said import Abort, Cleared, Extend, Grant, Progress, Release, Revoke, Said, Track, Untrack
from kvlease.protocol.timing import TIMING, Timing

_OF_LINKS = (Connect, Disconnect)


class PeerSnapshot(NamedTuple):
    """The state of a peer at a moment."""

    lessor: LessorSnapshot
    lessee: LesseeSnapshot
    links: frozenset[int]
    """The incarnations that it is connected with."""


class Peer:
    """A lessor and a lessee with one name on the network. Not thread-safe: one thread owns it.

    Attributes: `lessor` and `lessee`, for reading only.
    """

    def __init__(
        self,
        config: LeaseConfig,
        engine_id: str,
        incarnation: int,
        address: bytes,
        now: float,
        timing: Timing = TIMING,
        tell: Tell | None = None,
    ) -> None:
        """`address`: where the transport is reached by other agents; `now`: monotonic seconds. `tell` hears facts."""
        self.incarnation = incarnation
        self.lessor = Lessor(config, incarnation, now, timing, tell)
        self.lessee = Lessee(engine_id, incarnation, address, config.stall_limit_s, now, timing, tell)
        self._links: dict[int, set[str]] = {}
        """The halves (of this peer) that use each link: both may talk to the same engine."""

    def turn(
        self,
        now: float,
        said: Iterable[Said] = (),
        arrived: Iterable[tuple[int, Message]] = (),
        cards: Iterable[tuple[Endpoint, LeaseCard | None]] = (),
        progress: Progress | None = None,
    ) -> list[Effect]:
        """Takes one turn: what the engine said, then all that arrived, then what is due. Returns what is to be done.

        The order matters: a claim must not come before its grant, and no lease may end while the message that would
        have saved it is unread. `arrived`: (sender's incarnation, message). `cards`: answers to `Fetch`, None where
        nobody answered. `progress`: the engine's latest step, None where that is unknown. If the transport finds a peer
        gone while the effects are carried out, `lost` is to be called.
        """
        self._hear(said, now)
        for peer, message in arrived:
            self._receive(peer, message, now)
        for endpoint, card in cards:
            self.lessee.card_fetched(endpoint, card, now)
        self.lessor.advance(now)
        if progress is not None:
            # This comes last: withheld renewals are sent as soon as the engine goes on, whatever has arrived meanwhile.
            self.lessee.progress(progress.at, stepping=progress.stepping)
        self.lessee.advance(now)
        return self._take_effects()

    def lost(self, peer: int, now: float) -> list[Effect]:
        """The transport says that `peer` is dead or unreachable. Returns what is to be done."""
        self.lessor.peer_lost(peer, now)
        self.lessee.peer_lost(peer, now)
        return self._take_effects()

    def close(self, now: float) -> list[Effect]:
        """The engine shuts down: says Bye to all peers. Returns what is to be done; no other call may follow."""
        self.lessor.close(now)
        self.lessee.close()
        return self._take_effects()

    def next_due(self) -> float | None:
        """Returns the time at which a turn has something to do, unless something arrives before; None for never."""
        one, other = self.lessor.next_due(), self.lessee.next_due()
        if one is None:
            return other
        return one if other is None or one < other else other

    def snapshot(self) -> PeerSnapshot:
        """Returns all that is known."""
        return PeerSnapshot(self.lessor.snapshot(), self.lessee.snapshot(), frozenset(self._links))

    def _hear(self, said: Iterable[Said], now: float) -> None:
        # Each lease has five events, and isinstance, which `match` uses, is slow for msgspec's classes.
        for event in said:
            if type(event) is Grant:
                self.lessor.grant(event.token, now)
            elif type(event) is Cleared:
                self.lessor.cleared(event.token, now)
            elif type(event) is Track:
                self.lessee.track(event.holder, event.ref, event.endpoint, event.siblings, now)
            elif type(event) is Untrack:
                self.lessee.untrack(event.holder, now)
            elif type(event) is Extend:
                self.lessor.extend(event.token, now)
            elif type(event) is Release:
                self.lessor.release(event.token, now)
            elif type(event) is Abort:
                self.lessor.abort(event.token, now)
            else:
                assert type(event) is Revoke
                self.lessor.revoke(event.token, now)

    def _receive(self, peer: int, message: Message, now: float) -> None:
        match message:
            case Hello() | Renew():
                self.lessor.receive(peer, message, now)
            case Bye(seq) if seq:
                # A consumer's Bye is numbered, a producer's is not; an engine may be both to us.
                self.lessor.receive(peer, message, now)
            case Welcome() | Ack() | Gone() | Probe() | Bye():
                self.lessee.receive(peer, message, now)

    def _take_effects(self) -> list[Effect]:
        lessors, lessees = self.lessor.take_effects(), self.lessee.take_effects()
        # Most turns have none at all.
        to_carry_out = self._to_carry_out("lessor", lessors) if lessors else []
        return to_carry_out + self._to_carry_out("lessee", lessees) if lessees else to_carry_out

    def _to_carry_out(self, half: str, effects: list[Effect]) -> list[Effect]:
        # Nearly all are messages and ends, which open and close no link.
        return [effect for effect in effects if type(effect) not in _OF_LINKS or self._account_for(half, effect)]

    def _account_for(self, half: str, effect: Effect) -> bool:
        """Notes which halves use a link. Returns False for an effect that is not to be carried out: a link is closed
        only when the last half has no use for it."""
        if isinstance(effect, Connect):
            self._links.setdefault(effect.peer, set()).add(half)
        elif isinstance(effect, Disconnect):
            halves = self._links.get(effect.peer, set())
            halves.discard(half)
            if halves:
                return False
            self._links.pop(effect.peer, None)
        return True
