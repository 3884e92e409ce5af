"""What a lease agent does in a turn, without the thread that takes the turns: `agent.loop` has that.

The engine's step and the agent never wait for each other. The engine leaves word in a deque and takes word from
another, both atomic in CPython; the protocol belongs to whoever takes the turns. So renewals do not wait for steps
(R15), and no step waits for a renewal, whatever the number of leases.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kvlease.agent.cards import CardSource
from kvlease.agent.transport import Transport
from kvlease.errors import BadMessage, PeerGone, UnsupportedEngine
from kvlease.logs import bounded_logger
from kvlease.protocol import TIMING, Endpoint, LeaseConfig, LeaseRef, Peer, PeerSnapshot, Timing
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lose, Revoke, Send
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, Message, decode, encode
from kvlease.protocol.said import Abort, Cleared, Extend, Grant, Progress, Said, Track, Untrack

bounded = bounded_logger(__name__)

T = TypeVar("T")
CONNECTING_S = 0.05
"""How long the first messages of a connection take at most, where both sides look often."""


@dataclass(frozen=True, slots=True)
class AgentReport:
    """What the agent can tell about itself at a moment; counters since its start."""

    up: bool
    leases: int
    consumers: int
    """Sessions in which others renew leases here."""
    producers: int
    """Sessions in which this agent renews leases elsewhere."""
    lessor: dict[str, int]
    lessee: dict[str, int]
    agent: dict[str, int]


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """What an agent knows at a moment, in whole; of the thread that takes the turns."""

    peer: PeerSnapshot
    revoked: tuple[Revoke, ...]
    """Leases that are over, of which the engine has not yet heard."""
    lost: tuple[str, ...]
    """Local requests whose lease is lost, of which the engine has not yet heard."""
    said: int
    """What the engine said and the agent has not yet heard."""


class AgentCore:
    """Runs one engine's protocol over a transport. One thread calls `turn`, one other may call the rest.

    The simulator and the explorer call `turn` with a time of their own.

    Attributes: `peer`, the protocol, of the thread that takes the turns. `died_at`: when that thread died of an
    unforeseen error, on `clock`; None while it lives.
    """

    def __init__(
        self,
        config: LeaseConfig,
        engine_id: str,
        open_transport: Callable[[int], Transport],
        cards: CardSource,
        *,
        incarnation: int | None = None,
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.incarnation = secrets.randbits(64) if incarnation is None else incarnation
        self.died_at: float | None = None
        now = clock()
        self._clock = clock
        self._transport = open_transport(self.incarnation)
        if (size := len(self._transport.address)) > MAX_ADDRESS_BYTES:
            raise UnsupportedEngine(
                f"this agent's address is {size} B and has to fit into one message, with at most {MAX_ADDRESS_BYTES}: "
                "it names too many network devices. Name fewer, for example with UCX_NET_DEVICES=mlx5_0:1"
            )
        self._cards = cards
        self.peer = Peer(config, engine_id, self.incarnation, self._transport.address, now, timing)
        self._counts: Counter[str] = Counter()
        self._progress_at = now
        self._steps = 0
        """Begun and not ended; schedulers let steps overlap."""
        self._connecting_until = now
        self._said: deque[Said] = deque()
        self._revoked: deque[Revoke] = deque()
        self._lost: deque[str] = deque()

    @property
    def address(self) -> bytes:
        """What goes onto the lease card, so that other agents can reach this one."""
        return self._transport.address

    # -- the engine leaves word ----------------------------------------------------------------------------------

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. Word is left before the token can leave the engine."""
        self._leave_word(Grant(token))

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""
        self._leave_word(Extend(token))

    def abort(self, token: int) -> None:
        """What was granted is not handed over after all: nobody will ever claim it."""
        self._leave_word(Abort(token))

    def cleared(self, token: int) -> None:
        """All workers have cleared the lease's word and let go of its blocks."""
        self._leave_word(Cleared(token))

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """A local request wants this lease kept; `siblings`: others of the same request (n > 1) may come for it."""
        self._leave_word(Track(holder, ref, endpoint, siblings))

    def untrack(self, holder: str) -> None:
        """A local request has its data, or ended."""
        self._leave_word(Untrack(holder))

    def progress(self) -> bool:
        """The engine begins a step. Returns whether there is word for it to take, or the agent has died.

        Cheap enough for every step.
        """
        self._steps += 1
        self._progress_at = self._clock()
        return bool(self._revoked or self._lost) or self.died_at is not None

    def step_ended(self) -> None:
        """The engine has ended a step. While none is under way it is idle or paused, however long the last one took."""
        # Never below 0: whoever counted wrong must not have long steps taken for pauses ever after (L2).
        self._steps = max(self._steps - 1, 0)
        self._progress_at = self._clock()

    def _leave_word(self, word: Said) -> None:
        if self.died_at is None:
            # Otherwise nobody would ever hear it.
            self._said.append(word)

    # -- the engine takes word -----------------------------------------------------------------------------------

    def take_revoked(self) -> list[Revoke]:
        """The leases that are over: their words are to be cleared now."""
        return _drain(self._revoked) if self._revoked else []

    def take_lost(self) -> list[str]:
        """The local requests whose lease is lost."""
        return _drain(self._lost) if self._lost else []

    def report(self) -> AgentReport:
        """Counters and gauges. Copies of dicts, each atomic; together they may be a message apart."""
        return AgentReport(
            up=self.died_at is None,
            leases=len(self.peer.lessor.leases),
            consumers=len(self.peer.lessor.sessions),
            producers=len(self.peer.lessee.sessions),
            lessor=dict(self.peer.lessor.counts),
            lessee=dict(self.peer.lessee.counts),
            agent=dict(self._counts) | {"refused.sender": self._transport.foreign},
        )

    # -- a turn --------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> bool:
        """One turn of the protocol (`Peer.turn`), and what comes of it. True when anything happened."""
        said = _drain(self._said) if self._said else ()
        arrived = self._transport.receive()
        messages = self._read(arrived) if arrived else ()
        progress = Progress(self._progress_at, self._steps > 0)
        effects = self.peer.turn(now, said, messages, self._cards.answers(), progress)
        if effects:
            self._carry_out(effects, now)
        return bool(said or arrived or effects)

    def say_bye(self) -> None:
        """To all peers: this engine shuts down. The last turn."""
        now = self._clock()
        self._carry_out(self.peer.close(now), now)

    def die(self) -> None:
        """Whoever takes the turns dies of an unforeseen error: nobody is heard any more."""
        self.died_at = self._clock()
        self._said.clear()

    def snapshot(self) -> AgentSnapshot:
        """All that it knows. Only for the thread that takes the turns."""
        return AgentSnapshot(self.peer.snapshot(), tuple(self._revoked), tuple(self._lost), len(self._said))

    def _read(self, arrived: Iterable[tuple[int, bytes]]) -> list[tuple[int, Message]]:
        """What can be read of what has arrived; the rest is counted."""
        messages: list[tuple[int, Message]] = []
        for peer, payload in arrived:
            try:
                messages.append((peer, decode(payload)))
            except BadMessage as e:
                self._counts[f"refused.{e.kind}"] += 1
                bounded.warning("kvlease: dropped a malformed message of agent %016x: %s", peer, e)
        return messages

    def _carry_out(self, effects: Sequence[Effect], now: float) -> None:
        while effects:
            # What comes of a peer that is gone is done after what was to be done anyway.
            effects = [more for effect in effects for more in self._do(effect, now)]

    def _do(self, effect: Effect, now: float) -> Sequence[Effect]:
        """Returns what is to be done besides, since a peer is gone."""
        match effect:
            case Send():
                return self._send(effect.peer, effect.message, now)
            case Revoke():
                self._revoked.append(effect)
            case Connect():
                return self._connect(effect.peer, effect.address, now)
            case Disconnect():
                self._transport.disconnect(effect.peer)
            case Fetch():
                self._cards.ask(effect.endpoint)
            case Lose():
                self._lost.append(effect.holder)
        return ()

    def _send(self, peer: int, message: Message, now: float) -> Sequence[Effect]:
        try:
            self._transport.send(peer, encode(message))
        except PeerGone as e:
            self._counts["sends_failed"] += 1
            bounded.warning("kvlease: agent %016x is gone: %s", peer, e)
            return self.peer.lost(peer, now)
        return ()

    def _connect(self, peer: int, address: bytes, now: float) -> Sequence[Effect]:
        # A link that is there stays: the first messages of a connection take many turns on both sides, and a Hello that
        # is repeated meanwhile must not begin it anew. One that is known to be dead was disconnected when it died.
        try:
            self._transport.connect(peer, address)
        except PeerGone as e:
            self._counts["connects_failed"] += 1
            bounded.warning("kvlease: agent %016x cannot be reached: %s", peer, e)
            return self.peer.lost(peer, now)
        self._connecting_until = now + CONNECTING_S
        return ()


def _drain(queue: deque[T]) -> list[T]:
    # Only what is there now: the other thread may go on appending.
    return [queue.popleft() for _ in range(len(queue))]
