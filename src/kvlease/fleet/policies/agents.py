"""The lease agents of the fleet: the real protocol, driven by events instead of by polling.

A real agent takes a turn every 10 ms, and for a while after a claim or the begin of a connection more often; an
engine's word that it wants a lease, or does not need it any more, wakes it (`agent/loop.py`). Here it takes its turns
at such times, too, but only when something has arrived or a deadline has passed before.
"""

from math import floor, inf
from typing import Any, Protocol

from kvlease.fleet.leasing import HoldingEngine, ReadingEngine
from kvlease.fleet.policies.network import Post
from kvlease.protocol import Cause, Endpoint, LeaseCard, LeaseConfig, LeaseRef, Peer, WorkerFence
from kvlease.protocol.effects import Connect, Effect, Fetch, Lapse, LeaseNews, Lose, Revive, Send
from kvlease.protocol.messages import VERSION, Message, Renew
from kvlease.protocol.said import Progress, Said, Track, Untrack

ADDRESS = bytes(450)
"""An address as long as a NIXL agent's metadata without registered memory."""
FENCE_SLOTS = 1 << 16
CONNECTING_S = 0.05
"""The time for which an agent takes its turns more often after a connection was begun (`agent/core.py`)."""
READING_S = 0.1
"""The same after a claim, on both sides (`agent/core.py`)."""


class AgentsEngine(Protocol):
    """The engine of an agent, as its agent uses it."""

    def progress(self, now: float) -> Progress | None:
        """Is called as a turn begins. Returns the engine's latest step; None where its steps are of no interest."""

    def do(self, effect: Effect) -> None:
        """Has an effect other than a message, if it means anything here: there are no connections in this model."""


class FleetAgent:
    """A lease agent, which lives, stands still, and takes turns. (Two subclasses would make each look-up slower.)"""

    def __init__(self, post: Post, engine_id: str, config: LeaseConfig, engine: AgentsEngine) -> None:
        self.incarnation = post.draw_incarnation()
        self.died_at: float | None = None
        self.stopped_until = 0.0
        self._post = post
        self._agenda = post.agenda
        self._engine = engine
        self._poll_s = post.fleet.agent_poll_s
        self._connecting_poll_s = post.fleet.agent_connecting_poll_s
        self._reading_poll_s = post.fleet.agent_reading_poll_s
        self._connecting_until = self._reading_until = 0.0
        self._phase = post.draw_phase()
        self.peer = Peer(config, engine_id, self.incarnation, ADDRESS, self._agenda.now)
        self._turn_at = inf
        """The time of the next turn."""
        self._calls: list[float] = []
        """The times for which the agenda is going to call, the next one last. None is planned where an earlier one is
        left over: the agenda would be full of calls that are of no use, and slow."""
        self._waiting: list[tuple[float, list[Any], Any]] = []
        """The input of coming turns: the time it is there, the list that it goes into, and itself."""
        self._said: list[Said] = []
        self._arrived: list[tuple[int, Message]] = []
        self._cards: list[tuple[Endpoint, LeaseCard | None]] = []
        post.join(self)

    def die(self) -> None:
        self.died_at = self._agenda.now
        self._waiting.clear()

    def stop(self, until: float) -> None:
        """Makes the agent stand still with its process until a time."""
        self.stopped_until = max(self.stopped_until, until)

    # -- the input of turns --------------------------------------------------------------------------------------

    def say(self, event: Said) -> None:
        """Takes what its engine says."""
        self._wait(self._agenda.now, self._said, event)

    def wake(self) -> None:
        """Has a turn taken for what its engine has just said."""
        if self.died_at is None:
            at = max(self._agenda.now + self._post.fleet.agent_wake_s, self.stopped_until)
            if at < self._turn_at:
                self._turn_by(at)

    def expect_reads(self) -> None:
        """Takes turns more often for a while: what was claimed just now is soon read."""
        self._reading_until = self._agenda.now + READING_S

    def arrive(self, at: float, sender: int, message: Message) -> None:
        """Takes a message that arrives at a time."""
        self._wait(at, self._arrived, (sender, message))

    def answer(self, at: float, endpoint: Endpoint, card: LeaseCard | None) -> None:
        """Takes the answer to a question for a card; None where nobody answered."""
        self._wait(at, self._cards, (endpoint, card))

    def _wait(self, at: float, heard: list[Any], what: Any) -> None:
        if self.died_at is None:
            self._waiting.append((at, heard, what))
            if at < self._turn_at:
                self._plan(at)

    # -- turns: most of a simulation's time is spent here --------------------------------------------------------

    def _plan(self, due: float) -> None:
        """Plans a turn at `due` or soon after, unless there is one before."""
        now = self._agenda.now
        # Comparisons, since `max` would take longer than all the rest.
        if due < now:
            due = now
        if due < self.stopped_until:
            due = self.stopped_until
        if due < self._connecting_until:
            poll_s = self._connecting_poll_s
        elif due < self._reading_until:
            poll_s = self._reading_poll_s
        else:
            poll_s = self._poll_s
        at = (floor(due / poll_s - self._phase) + 1 + self._phase) * poll_s
        if at <= now:
            # By rounding, that turn would be the present one.
            at += poll_s
        if at < self._turn_at:
            self._turn_by(at)

    def _turn_by(self, at: float) -> None:
        """Plans a turn at a time; none is planned before."""
        self._turn_at = at
        calls = self._calls
        if not calls or calls[-1] > at:
            calls.append(at)
            self._agenda.at(at, self._called)

    def _called(self, _: object) -> None:
        self._calls.pop()
        if self.died_at is not None:
            return
        now, at = self._agenda.now, self._turn_at
        if now < at:
            if at < inf:
                self._turn_by(at)
            return
        self._turn_at = inf
        if self.stopped_until > now:
            self._plan(now)
        else:
            self._turn(now)

    def _turn(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each[0] <= now:
                each[1].append(each[2])
            else:
                self._waiting.append(each)
        for _, message in self._arrived:
            if type(message) is Renew and message.claims:
                self.expect_reads()
        progress = self._engine.progress(now)
        effects = self.peer.turn(now, self._said, self._arrived, self._cards, progress)
        self._said.clear()
        self._arrived.clear()
        self._cards.clear()
        if effects:
            self._carry_out(effects, now)
        for each in self._waiting:
            if each[0] < self._turn_at:
                self._plan(each[0])
        due = self.peer.next_due()
        if due is not None and due < self._turn_at:
            self._plan(due)

    def _carry_out(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            if type(effect) is Send:
                if not self._post.send(self, effect.peer, effect.message):
                    self._carry_out(self.peer.lost(effect.peer, now), now)
            elif type(effect) is Connect:
                self._connecting_until = now + CONNECTING_S
            else:
                self._engine.do(effect)


class ProducerAgent:
    """The agent of an engine that prefills, and the effects that it has there."""

    def __init__(self, post: Post, producer: HoldingEngine, config: LeaseConfig) -> None:
        self.agent = FleetAgent(post, "", config, self)
        self._agenda = post.agenda
        self._producer = producer
        self._stood_still = False
        self._news: list[LeaseNews] = []
        """The news for the engine's next step, in the order in which the lessor said them."""
        workers = [WorkerFence(0, rank, 1 << 40, FENCE_SLOTS) for rank in range(post.fleet.tensor_parallel)]
        post.serve(self.agent, producer.life, LeaseCard([VERSION], self.agent.incarnation, ADDRESS, workers))

    def stop(self, until: float) -> None:
        """Makes the agent stand still with its process until a time."""
        self.progress(self._agenda.now)
        self._stood_still = True
        self.agent.stop(until)

    def progress(self, now: float) -> None:
        """Begins a turn; only a time for which the agent stood still is a gap (R26). It renews nothing."""
        if self._stood_still:
            self._stood_still = self.agent.stopped_until > now
        else:
            # The real agent would have taken a turn every 10 ms up to now.
            self.agent.peer.lessor.was_awake(now)

    def do(self, effect: Effect) -> None:
        if type(effect) is Lapse or type(effect) is Revive:
            if not self._news:
                self._producer.at_step(self._hear, None)
            self._news.append(effect)

    def _hear(self, _: object) -> None:
        """Has the engine do what `kvlease.engine.producer` does in its steps."""
        producer = self._producer
        news, self._news = self._news, []
        for each in news:
            # One that was claimed again when its blocks had just gone is not here any more.
            if type(each) is Lapse and (held := producer.leases.get(each.token)) is not None:
                producer.lapse(held, each.cause.value, last=each.cause is not Cause.RELEASED)
            elif type(each) is Revive and (lapsed := producer.lapsed.get(each.token)) is not None:
                producer.revive(lapsed)


class ConsumerAgent:
    """The agent of an engine that decodes, and the effects that it has there."""

    def __init__(self, post: Post, consumer: ReadingEngine, config: LeaseConfig) -> None:
        self.agent = FleetAgent(post, f"consumer-{consumer.index:06d}-" + "0" * 20, config, self)
        self.lost: set[str] = set()
        """The requests whose lease is lost."""
        self._post = post
        self._consumer = consumer

    def stop(self, until: float) -> None:
        """Makes the agent stand still with its process until a time."""
        self.agent.stop(until)

    def track(self, holder: str, ref: LeaseRef, endpoint: Endpoint) -> None:
        """The engine wants a lease."""
        self.agent.say(Track(holder, ref, endpoint))
        self.agent.expect_reads()
        self.agent.wake()

    def untrack(self, holder: str) -> None:
        """The engine does not need a lease any more."""
        self.agent.say(Untrack(holder))
        self.agent.wake()
        self.lost.discard(holder)

    def progress(self, now: float) -> Progress:
        # An engine that does not stand still makes steps all the time.
        return Progress(self._consumer.stalled_since if self._consumer.stands_still else now, True)

    def do(self, effect: Effect) -> None:
        if type(effect) is Fetch:
            self._post.fetch(effect.endpoint, self.agent)
        elif type(effect) is Lose:
            self.lost.add(effect.holder)
