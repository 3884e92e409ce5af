"""The lease agent without the thread that takes its turns, which is `agent.loop`'s.

The engine's step and the agent never wait for each other. They tell each other news through deques, whose operations
are atomic in CPython; only the thread that takes the turns touches the protocol. So renewals do not wait for steps
(R15), and no step waits for a renewal, whatever the number of leases.
"""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from kvlease.agent.asking import OpenQuestions
from kvlease.agent.cards import CardSource
from kvlease.agent.transport import Transport
from kvlease.errors import BadMessage, PeerGone, UnsupportedEngine
from kvlease.logs import bounded_logger
from kvlease.protocol import TIMING, Endpoint, LeaseConfig, LeaseRef, Peer, PeerSnapshot, Timing
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lapse, LeaseNews, Lose, Revive, Send
from kvlease.protocol.facts import Tell
from kvlease.protocol.messages import MAX_ADDRESS_BYTES, Message, decode, encode
from kvlease.protocol.said import Abort, Cleared, Extend, Grant, Progress, Release, Revoke, Said, Track, Untrack

bounded = bounded_logger(__name__)

T = TypeVar("T")
IDLE_STEP_S = 0.5
"""The longest pause after which an engine is woken for a step while leases are out that no session claims, so that it
hears stock consumers, whose word reaches its workers alone; and while it has claims to tell of."""
SILENT_STEP_S = 30.0
"""The same pause where sessions claim all leases that are out, so that its figures are not older than that."""
CONNECTING_S = 0.05
"""The longest time that the first messages of a connection take, where both sides poll often."""
READING_S = 0.1
"""The time after a claim in which most reads end, where nothing waits."""


@dataclass(frozen=True, slots=True)
class AgentReport:
    """The agent's own figures at a moment; counters are since its start."""

    up: bool
    leases: int
    """The leases that live or have lapsed."""
    consumers: int
    """The sessions in which others renew leases here."""
    claimed: int
    """The leases that a session claims."""
    producers: int
    """The sessions in which this agent renews leases elsewhere."""
    lessor: dict[str, int]
    lessee: dict[str, int]
    agent: dict[str, int]


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """The whole state of an agent at a moment, for the thread that takes the turns."""

    peer: PeerSnapshot
    news: tuple[LeaseNews, ...]
    """The leases that are over, and that live again, of which the engine was not yet told."""
    lost: tuple[str, ...]
    """The local requests whose lease is lost, and of which the engine was not yet told."""
    said: int
    """The number of things that the engine said, and that no turn has taken yet."""


class AgentCore:
    """Runs one engine's protocol over a transport. One thread calls `turn`, one other may call the rest.

    The simulator and the explorer call `turn` with a time of their own.

    Attributes: `peer`: the protocol, for the thread that takes the turns. `died_at`: the time, on `clock`, at which
    that thread died of an unforeseen error; None while it lives.
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
        tell: Tell | None = None,
    ) -> None:
        """`tell` hears the protocol's facts, in the thread that takes the turns."""
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
        self.peer = Peer(config, engine_id, self.incarnation, self._transport.address, now, timing, tell)
        self._counts: Counter[str] = Counter()
        self._progress_at = now
        self._steps = 0
        """The number of steps begun and not ended; schedulers let steps overlap."""
        self._connecting_until = now
        self._reading_until = now
        self._told_claims = 0
        """The number of claims that the engine has been told of."""
        self._wake: Callable[[], None] | None = None
        self._watch: Callable[[Peer, float], None] | None = None
        # No stock consumer's renewal may come too late to be heard in time.
        self._idle_step_s = min(IDLE_STEP_S, config.extension_s / 4)
        self._woken = False
        self._said: deque[Said] = deque()
        self._news: deque[LeaseNews] = deque()
        self._lost: deque[str] = deque()
        self._questions = OpenQuestions(clock)

    @property
    def address(self) -> bytes:
        """The address for the lease card, by which other agents reach this one."""
        return self._transport.address

    # -- what the engine says ------------------------------------------------------------------------------------

    def grant(self, token: int) -> None:
        """The prefill is done; the lease's term begins. It is said before the token can leave the engine."""
        self._say(Grant(token))

    def extend(self, token: int) -> None:
        """A stock consumer's heartbeat named the lease."""
        self._say(Extend(token))

    def release(self, token: int) -> None:
        """A stock consumer has told all workers that it has read."""
        self._say(Release(token))

    def abort(self, token: int) -> None:
        """The lease is not handed over after all: nobody will ever claim it."""
        self._say(Abort(token))

    def revoke(self, token: int) -> None:
        """An operator ends the lease. Any thread may call it."""
        self._say(Revoke(token))

    def cleared(self, token: int) -> None:
        """The lease's word is clear in every worker."""
        self._say(Cleared(token))

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """A local request wants this lease kept; `siblings`: others of the same request (n > 1) may want it, too."""
        self._say(Track(holder, ref, endpoint, siblings))
        self._reading_until = self._clock() + READING_S

    def untrack(self, holder: str) -> None:
        """A local request has its data, or has ended."""
        self._say(Untrack(holder))

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Takes the way to wake an idle engine: `wake`, called by the thread that takes the turns, has it ask for
        `wants_step`."""
        self._wake = wake

    def watch_by(self, watch: Callable[[Peer, float], None]) -> None:
        """Takes who is to look at the protocol after each turn, with the time of the turn: in the thread that takes
        the turns, so `watch` must be quick, and must not raise. It changes nothing."""
        self._watch = watch

    def ask_for_step(self) -> None:
        """Has the engine make a step soon, if it is idle: what changed while it made none is told in steps alone."""
        self._woken = True
        if self._wake is not None:
            self._wake()

    @property
    def wants_step(self) -> bool:
        """Tells whether the engine should make a step although it has nothing to compute."""
        return bool(self._news) or self._woken

    def progress(self) -> bool:
        """The engine begins a step. Tells whether there is news for it to take, or the agent has died.

        It is cheap enough for every step.
        """
        self._steps += 1
        self._woken = False
        self._progress_at = self._clock()
        return bool(self._news or self._lost) or self.died_at is not None

    def step_ended(self) -> None:
        """The engine has ended a step. While none is under way it is idle or paused, not stuck in a step."""
        # Never below 0: after one end too many, long steps would be taken for pauses for ever (L2).
        if self._steps:
            self._steps -= 1
        self._progress_at = self._clock()

    def _say(self, event: Said) -> None:
        if self.died_at is None:
            # A dead agent takes no turns: what it is told would only fill the memory.
            self._said.append(event)

    # -- what the engine is told ---------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Tells whether `take_news` would return any."""
        return bool(self._news)

    def take_news(self) -> list[LeaseNews]:
        """Takes the leases that are over, and those that live again, in this order."""
        return _drain(self._news) if self._news else []

    def take_lost(self) -> list[str]:
        """Takes the local requests whose lease is lost."""
        return _drain(self._lost) if self._lost else []

    def report(self) -> AgentReport:
        """Returns counters and gauges: copies, each of them atomic, that may be a message apart."""
        return AgentReport(
            up=self.died_at is None,
            leases=len(self.peer.lessor.leases),
            consumers=len(self.peer.lessor.sessions),
            claimed=self.peer.lessor.claimed,
            producers=len(self.peer.lessee.sessions),
            lessor=dict(self.peer.lessor.counts),
            lessee=dict(self.peer.lessee.counts),
            agent=dict(self._counts) | {"refused.sender": self._transport.foreign},
        )

    def has_told(self, report: AgentReport) -> None:
        """The engine has told these figures: it need not be woken for them."""
        self._told_claims = report.lessor.get("claims", 0)

    # -- whoever wants to know -----------------------------------------------------------------------------------

    def ask(self, question: Callable[[Peer], T]) -> Future[T]:
        """Has the thread that takes the turns call `question` with the protocol, and returns what will be its result.

        Any thread may call it, and any number of them. The future raises what `question` does, and `AgentGone` where
        there are no more turns. `question` changes nothing, and is quick: renewals wait for it.
        """
        return self._questions.ask(question)

    # -- a turn --------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> bool:
        """Takes one turn of the protocol (`Peer.turn`) and carries out its effects. Tells whether anything happened."""
        said = _drain(self._said) if self._said else ()
        arrived = self._transport.receive()
        messages = self._read(arrived) if arrived else ()
        progress = Progress(self._progress_at, self._steps > 0)
        lessor = self.peer.lessor
        claims = lessor.counts["claims"]
        effects = self.peer.turn(now, said, messages, self._cards.answers(), progress)
        if lessor.counts["claims"] != claims:
            self._reading_until = now + READING_S
        if effects:
            self._carry_out(effects, now)
        if self._watch is not None:
            self._watch(self.peer, now)
        if self._questions:
            self._questions.answer(self.peer)
        if self._wake is not None and not self._steps and not self._woken:
            self._wake_engine(self._wake, now)
        return bool(said or arrived or effects)

    def _wake_engine(self, wake: Callable[[], None], now: float) -> None:
        """Wakes an idle engine that is to hear news, or that has leases out and made no step for a while."""
        if self._news or (self.peer.lessor.held and now - self._progress_at > self._longest_pause_s()):
            self._woken = True
            wake()

    def _longest_pause_s(self) -> float:
        # A step of an idle engine is dear where its workers are processes of their own and poll for a while after it.
        lessor = self.peer.lessor
        untold = lessor.counts["claims"] != self._told_claims
        # Where stock consumers have been heard, one may read what a session claims, too.
        silent = lessor.held == lessor.claimed and not untold and not lessor.counts["heartbeats"]
        return SILENT_STEP_S if silent else self._idle_step_s

    def say_bye(self) -> None:
        """Takes the last turn: tells all peers that this engine shuts down."""
        now = self._clock()
        self._carry_out(self.peer.close(now), now)
        self._questions.close()

    def die(self) -> None:
        """The thread that takes the turns dies of an unforeseen error: there are no more turns."""
        self.died_at = self._clock()
        self._said.clear()
        self._questions.close()
        self.ask_for_step()

    def snapshot(self) -> AgentSnapshot:
        """Returns all that the agent knows. Only the thread that takes the turns may call it."""
        return AgentSnapshot(self.peer.snapshot(), tuple(self._news), tuple(self._lost), len(self._said))

    def _read(self, arrived: Iterable[tuple[int, bytes]]) -> list[tuple[int, Message]]:
        """Returns the arrived messages that are well formed, and counts the others."""
        messages: list[tuple[int, Message]] = []
        for peer, payload in arrived:
            try:
                message = decode(payload)
            except BadMessage as e:
                self._counts[f"refused.{e.kind}"] += 1
                bounded.warning("kvlease: dropped a malformed message of agent %016x: %s", peer, e)
            else:
                messages.append((peer, message))
                self._count_message("received", message, payload)
        return messages

    def _carry_out(self, effects: Sequence[Effect], now: float) -> None:
        while effects:
            # Effects that follow from a peer's death come after those that were there before.
            effects = [more for effect in effects for more in self._do(effect, now)]

    def _do(self, effect: Effect, now: float) -> Sequence[Effect]:
        """Carries out one effect. Returns further effects if a peer turns out to be gone."""
        match effect:
            case Send():
                return self._send(effect.peer, effect.message, now)
            case Lapse() | Revive():
                self._news.append(effect)
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
        payload = encode(message)
        try:
            self._transport.send(peer, payload)
        except PeerGone as e:
            self._counts["sends_failed"] += 1
            bounded.warning("kvlease: agent %016x is gone: %s", peer, e)
            return self.peer.lost(peer, now)
        self._count_message("sent", message, payload)
        return ()

    def _count_message(self, done: str, message: Message, payload: bytes) -> None:
        kind = type(message).__name__.lower()
        self._counts[f"{done}.{kind}"] += 1
        self._counts[f"bytes_{done}.{kind}"] += len(payload)

    def _connect(self, peer: int, address: bytes, now: float) -> Sequence[Effect]:
        # A link that exists is kept: the first messages of a connection take many turns on both sides, and a Hello that
        # is repeated meanwhile must not begin it anew. A link whose peer is known to be dead was closed at its death.
        try:
            self._transport.connect(peer, address)
        except PeerGone as e:
            self._counts["connects_failed"] += 1
            bounded.warning("kvlease: agent %016x cannot be reached: %s", peer, e)
            return self.peer.lost(peer, now)
        self._connecting_until = now + CONNECTING_S
        return ()


def _drain(queue: deque[T]) -> list[T]:
    # Only the items that are there now: the other thread may go on appending.
    return [queue.popleft() for _ in range(len(queue))]
