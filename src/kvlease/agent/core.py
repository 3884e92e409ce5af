"""What a lease agent does in a turn, without the thread that takes the turns: `agent.loop` has that.

The engine's step and the agent never wait for each other. The engine leaves word in a deque and takes word from
another, both atomic in CPython; lessor and lessee belong to whoever takes the turns. So renewals do not wait for steps
(R15), and no step waits for a renewal, whatever the number of leases.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kvlease.agent.cards import CardSource
from kvlease.agent.transport import Transport
from kvlease.errors import BadMessage, PeerGone, UnsupportedEngine
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, LeaseConfig, LeaseRef, Lessee, Lessor
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lose, Revoke, Send
from kvlease.protocol.messages import (
    MAX_ADDRESS_BYTES,
    Ack,
    Bye,
    Gone,
    Hello,
    Message,
    Probe,
    Renew,
    Welcome,
    decode,
    encode,
)

bounded = bounded_logger(__name__)

T = TypeVar("T")
CONNECTING_S = 0.05
"""How long the first messages of a connection take at most, where both sides look often."""
Action = tuple[Callable[..., None], tuple[object, ...]]
"""What to call with these arguments and the time of the turn."""


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


class AgentCore:
    """Runs one engine's lessor and lessee over a transport. One thread calls `step`, one other may call the rest.

    The simulator and the explorer call `step` with a time of their own.
    """

    def __init__(
        self,
        config: LeaseConfig,
        engine_id: str,
        open_transport: Callable[[int], Transport],
        cards: CardSource,
        *,
        incarnation: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.incarnation = secrets.randbits(64) if incarnation is None else incarnation
        self.died_at: float | None = None
        """When whoever takes the turns died of an unforeseen error, on `clock`; None while it lives."""
        now = clock()
        self._clock = clock
        self._transport = open_transport(self.incarnation)
        if (size := len(self._transport.address)) > MAX_ADDRESS_BYTES:
            raise UnsupportedEngine(
                f"this agent's address is {size} B and has to fit into one message, with at most {MAX_ADDRESS_BYTES}: "
                "it names too many network devices. Name fewer, for example with UCX_NET_DEVICES=mlx5_0:1"
            )
        self._cards = cards
        self._lessor = Lessor(config, self.incarnation, now)
        self._lessee = Lessee(engine_id, self.incarnation, self._transport.address, config.stall_limit_s, now)
        self._links: dict[int, set[object]] = {}
        self._counts: Counter[str] = Counter()
        self._progress_at = now
        self._steps = 0
        """Begun and not ended; schedulers let steps overlap."""
        self._connecting_until = now
        self._actions: deque[Action] = deque()
        self._revoked: deque[Revoke] = deque()
        self._lost: deque[str] = deque()

    @property
    def address(self) -> bytes:
        """What goes onto the lease card, so that other agents can reach this one."""
        return self._transport.address

    # -- the engine leaves word ----------------------------------------------------------------------------------

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. Word is left before the token can leave the engine."""
        self._leave_word(self._lessor.grant, token)

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""
        self._leave_word(self._lessor.extend, token)

    def abort(self, token: int) -> None:
        """What was granted is not handed over after all: nobody will ever claim it."""
        self._leave_word(self._lessor.abort, token)

    def ended(self, token: int) -> None:
        """All workers have cleared the lease's word and let go of its blocks."""
        self._leave_word(self._lessor.ended, token)

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint) -> None:
        """A local request wants this lease kept."""
        self._leave_word(self._lessee.track, holder, ref, endpoint)

    def untrack(self, holder: str) -> None:
        """A local request has its data, or ended."""
        self._leave_word(self._lessee.untrack, holder)

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

    def _leave_word(self, action: Callable[..., None], *arguments: object) -> None:
        if self.died_at is None:
            # Otherwise nobody would ever hear it.
            self._actions.append((action, arguments))

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
            leases=len(self._lessor.leases),
            consumers=len(self._lessor.sessions),
            producers=len(self._lessee.sessions),
            lessor=dict(self._lessor.counts),
            lessee=dict(self._lessee.counts),
            agent=dict(self._counts) | {"refused.sender": self._transport.foreign},
        )

    # -- a turn --------------------------------------------------------------------------------------------------

    def step(self, now: float) -> bool:
        """The engine's word, then all that arrived, then what time does. True when anything happened.

        In this order, since nothing may end while the message that would have saved it lies unread.
        """
        busy = False
        while self._actions:
            action, arguments = self._actions.popleft()
            action(*arguments, now)
            busy = True
        for peer, payload in self._transport.receive():
            self._receive(peer, payload, now)
            busy = True
        for endpoint, card in self._cards.answers():
            self._lessee.card_fetched(endpoint, card, now)
        self._lessor.expire(now)
        self._lessee.progress(self._progress_at, stepping=self._steps > 0)
        self._lessee.advance(now)
        return self._carry_out(now) or busy

    def _receive(self, peer: int, payload: bytes, now: float) -> None:
        try:
            message = decode(payload)
        except BadMessage as e:
            self._counts[f"refused.{e.kind}"] += 1
            bounded.warning("kvlease: dropped a malformed message of agent %016x: %s", peer, e)
            return
        match message:
            case Hello() | Renew():
                self._lessor.receive(peer, message, now)
            case Welcome() | Ack() | Gone() | Probe():
                self._lessee.receive(peer, message, now)
            case Bye():
                # An engine may be our producer and our consumer at once.
                self._lessor.receive(peer, message, now)
                self._lessee.receive(peer, message, now)

    def _carry_out(self, now: float) -> bool:
        any_done = False
        while True:
            todo: list[tuple[object, Effect]] = [(self._lessor, e) for e in self._lessor.take_effects()]
            todo += [(self._lessee, e) for e in self._lessee.take_effects()]
            if not todo:
                return any_done
            any_done = True
            for role, effect in todo:
                self._do(role, effect, now)

    def _do(self, role: object, effect: Effect, now: float) -> None:
        match effect:
            case Send(peer, message):
                self._send(peer, message, now)
            case Connect(peer, address):
                self._connect(role, peer, address, now)
            case Disconnect(peer):
                self._disconnect(role, peer)
            case Fetch(endpoint):
                self._cards.ask(endpoint)
            case Revoke():
                self._revoked.append(effect)
            case Lose(holder):
                self._lost.append(holder)

    def _send(self, peer: int, message: Message, now: float) -> None:
        try:
            self._transport.send(peer, encode(message))
        except PeerGone as e:
            self._counts["sends_failed"] += 1
            bounded.warning("kvlease: agent %016x is gone: %s", peer, e)
            self._peer_lost(peer, now)

    def _connect(self, role: object, peer: int, address: bytes, now: float) -> None:
        # A link that is there stays: the first messages of a connection take many turns on both sides, and a Hello that
        # is repeated meanwhile must not begin it anew. One that is known to be dead was disconnected when it died.
        try:
            self._transport.connect(peer, address)
        except PeerGone as e:
            self._counts["connects_failed"] += 1
            bounded.warning("kvlease: agent %016x cannot be reached: %s", peer, e)
            self._peer_lost(peer, now)
        else:
            self._links.setdefault(peer, set()).add(role)
            self._connecting_until = now + CONNECTING_S

    def _disconnect(self, role: object, peer: int) -> None:
        """Lessor and lessee may talk to the same engine: the link goes with the last of them."""
        roles = self._links.get(peer, set())
        roles.discard(role)
        if not roles:
            self._links.pop(peer, None)
            self._transport.disconnect(peer)

    def _peer_lost(self, peer: int, now: float) -> None:
        self._lessor.peer_lost(peer, now)
        self._lessee.peer_lost(peer, now)

    def say_bye(self) -> None:
        """To all peers: this engine shuts down. The last turn."""
        self._lessor.close()
        self._lessee.close()
        self._carry_out(self._clock())


def _drain(queue: deque[T]) -> list[T]:
    # Only what is there now: the other thread may go on appending.
    return [queue.popleft() for _ in range(len(queue))]
