"""The lease agent: the thread in the scheduler's process that runs the protocol.

The engine's step and this thread never wait for each other. The engine leaves word in a deque and takes word from
another, both atomic in CPython; lessor and lessee belong to the thread alone. So renewals do not wait for steps (R15),
and no step waits for a renewal, whatever the number of leases.
"""

import logging
import secrets
import threading
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

logger = logging.getLogger(__name__)
bounded = bounded_logger(__name__)

IDLE_POLL_S = 0.01
"""NIXL without a progress thread moves only when asked: this often it is asked while nothing happens."""
BUSY_POLL_S = 0.001
"""The same for a while after something happened: an answer is then on its way, or a connection being made."""
BUSY_FOR_S = 0.05
"""That while. A round trip takes a fraction of it."""
CLOSE_S = 2.0
"""How long the end of an engine waits for the thread to say Bye."""

T = TypeVar("T")
Action = Callable[[float], None]


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


class LeaseAgent:
    """Runs one engine's lessor and lessee over a transport. Its public methods may be called from any one thread.

    `step` is one turn of the loop; the simulator calls it with its own time instead of `start`.
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
        """When the thread died of an unforeseen error, on `clock`; None while it lives."""
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
        self._actions: deque[Action] = deque()
        self._revoked: deque[Revoke] = deque()
        self._lost: deque[str] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kvlease-agent", daemon=True)

    @property
    def address(self) -> bytes:
        """What goes onto the lease card, so that other agents can reach this one."""
        return self._transport.address

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Say Bye to all peers and stop the thread; a no-op when it has ended already."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)

    # -- the engine leaves word ----------------------------------------------------------------------------------

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. Word is left before the token can leave the engine."""
        self._leave_word(lambda now: self._lessor.grant(token, now))

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""
        self._leave_word(lambda now: self._lessor.extend(token, now))

    def abort(self, token: int) -> None:
        """What was granted is not handed over after all: nobody will ever claim it."""
        self._leave_word(lambda now: self._lessor.abort(token, now))

    def ended(self, token: int) -> None:
        """All workers have cleared the lease's word and let go of its blocks."""
        self._leave_word(lambda now: self._lessor.ended(token, now))

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint) -> None:
        """A local request wants this lease kept."""
        self._leave_word(lambda now: self._lessee.track(holder, ref, endpoint, now))

    def untrack(self, holder: str) -> None:
        """A local request has its data, or ended."""
        self._leave_word(lambda now: self._lessee.untrack(holder, now))

    def progress(self) -> None:
        """The engine makes a step. One store: cheap enough for every step."""
        self._progress_at = self._clock()

    def _leave_word(self, action: Action) -> None:
        if self.died_at is not None:
            # Nobody will ever hear it.
            return
        self._actions.append(action)
        self._wake.set()

    # -- the engine takes word -----------------------------------------------------------------------------------

    def take_revoked(self) -> list[Revoke]:
        """The leases that are over: their words are to be cleared now."""
        return _drain(self._revoked)

    def take_lost(self) -> list[str]:
        """The local requests whose lease is lost."""
        return _drain(self._lost)

    def report(self) -> AgentReport:
        """Counters and gauges. Copies of dicts, each atomic; together they may be a message apart."""
        return AgentReport(
            up=self.died_at is None,
            leases=len(self._lessor.leases),
            consumers=len(self._lessor.sessions),
            producers=len(self._lessee.sessions),
            lessor=dict(self._lessor.counts),
            lessee=dict(self._lessee.counts),
            agent=dict(self._counts) | {"malformed.foreign": self._transport.foreign},
        )

    # -- the loop ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            busy_until = self._clock()
            while not self._closing:
                now = self._clock()
                if self.step(now):
                    busy_until = now + BUSY_FOR_S
                self._wake.wait(BUSY_POLL_S if now < busy_until else IDLE_POLL_S)
                self._wake.clear()
            self._say_bye()
        except Exception:
            # The one place for it: a bug in here must not take the engine down with it.
            self.died_at = self._clock()
            self._actions.clear()
            logger.exception(
                "kvlease: the lease agent died. This engine grants no leases from now on, takes back its outstanding "
                "ones after one term, and computes prompts itself; its fences stay right. Restart it when convenient."
            )
        finally:
            self._cards.close()
            self._transport.close()

    def step(self, now: float) -> bool:
        """One turn: the engine's word, then all that arrived, then what time does. True when anything happened.

        In this order, since nothing may end while the message that would have saved it lies unread.
        """
        busy = False
        while self._actions:
            self._actions.popleft()(now)
            busy = True
        for peer, payload in self._transport.receive():
            self._receive(peer, payload, now)
            busy = True
        for endpoint, card in self._cards.answers():
            self._lessee.card_fetched(endpoint, card, now)
        self._lessor.expire(now)
        self._lessee.progress(self._progress_at)
        self._lessee.advance(now)
        return self._carry_out(now) or busy

    def _receive(self, peer: int, payload: bytes, now: float) -> None:
        try:
            message = decode(payload)
        except BadMessage as e:
            self._counts[f"malformed.{e.kind}"] += 1
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

    def _say_bye(self) -> None:
        self._lessor.close()
        self._lessee.close()
        self._carry_out(self._clock())


def _drain(queue: deque[T]) -> list[T]:
    # Only what is there now: the other thread may go on appending.
    return [queue.popleft() for _ in range(len(queue))]
