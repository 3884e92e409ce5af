"""Lease agents of the fleet: the real lessor and lessee, driven by what happens instead of by polling.

A real agent takes a turn every 10 ms (`agent/loop.py`): words of its engine, messages, then what time does. Here it
takes its turns at such times, too, but only those before which it heard something, or a deadline of its own was over.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvlease.fleet.decode import Consumer
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Lease
from kvlease.protocol import Endpoint, LeaseCard, LeaseConfig, LeaseRef, Lessee, Lessor, WorkerFence
from kvlease.protocol.effects import Effect, Fetch, Lose, Revoke, Send
from kvlease.protocol.messages import (
    VERSION,
    Ack,
    Bye,
    FromConsumer,
    FromProducer,
    Gone,
    Hello,
    Message,
    Probe,
    Renew,
    Welcome,
    encode,
)

if TYPE_CHECKING:
    from kvlease.fleet.world import World

ADDRESS = bytes(450)
"""As long as a NIXL agent's metadata without registered memory."""
FENCE_SLOTS = 1 << 16
_KINDS = {kind: kind.__name__.lower() for kind in (Hello, Welcome, Renew, Ack, Gone, Probe, Bye)}

Word = Callable[[Any, float], None]
"""Called with what it is about and the time of the turn."""


class Post:
    """Carries messages between agents, and knows who they are."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.agenda = world.agenda
        self._books = world.books
        self._phases = world.chance.of("agents")
        self._incarnations = world.chance.of("incarnations")
        self._agents: dict[int, ProducerAgent | ConsumerAgent] = {}
        self._serving: dict[int, ProducerAgent] = {}
        self._lives: dict[tuple[int, int], int] = {}

    def draw_incarnation(self) -> int:
        return self._incarnations.getrandbits(64)

    def join(self, agent: "ProducerAgent | ConsumerAgent") -> None:
        """From now on it can be reached."""
        self._agents[agent.incarnation] = agent
        if isinstance(agent, ProducerAgent):
            self._serving[agent.producer.index] = agent
            self._lives[agent.producer.index, agent.producer.life] = agent.incarnation

    def incarnation(self, producer: int, life: int) -> int:
        """Of the agent of a producer in one of its lives."""
        return self._lives[producer, life]

    def draw_phase(self) -> float:
        """When an agent takes its turns, as a share of the time between two of them."""
        return self._phases.random()

    def send(self, sender: "ProducerAgent | ConsumerAgent", peer: int, message: Message) -> bool:
        """False when the transport says that the peer is gone."""
        now, fleet = self.agenda.now, self.world.fleet
        receiver = self._agents[peer]
        if receiver.died_at is not None and now >= receiver.died_at + fleet.death_seen_s:
            return False
        self._books.send(_KINDS[type(message)], len(encode(message)), 1, now)
        receiver.note(receiver.hear, (sender.incarnation, message), now + fleet.latency_s)
        return True

    def fetch(self, endpoint: Endpoint, asker: "ConsumerAgent") -> None:
        """Asks the side channel of a producer for its card."""
        now, fleet = self.agenda.now, self.world.fleet
        agent = self._serving[endpoint[1]]
        served_at = max(now, agent.stopped_until) + fleet.card_s
        if agent.died_at is not None or served_at > now + max(fleet.card_timeout_s, fleet.card_s):
            asker.note(asker.fetched, (endpoint, None), now + fleet.card_timeout_s)
        else:
            self._books.send("card", agent.card_bytes, 2, now)
            asker.note(asker.fetched, (endpoint, agent.card), served_at)


class Agent:
    """What both kinds have in common: they live, stand still, and take turns."""

    def __init__(self, post: Post) -> None:
        self.incarnation = post.draw_incarnation()
        self.died_at: float | None = None
        self.stopped_until = 0.0
        self._post = post
        self._agenda = post.agenda
        self._poll_s = post.world.fleet.agent_poll_s
        self._phase = post.draw_phase()
        self._turn_at = math.inf
        """When the next turn is planned."""
        self._words: list[tuple[float, Word, Any]] = []
        """What it hears in the first turn from a time on."""

    def die(self) -> None:
        self.died_at = self._agenda.now
        self._words.clear()

    def stop(self, until: float) -> None:
        """It stands still, with its process."""
        self.stopped_until = max(self.stopped_until, until)

    def note(self, word: Word, subject: Any, at: float) -> None:
        """Let it hear `word(subject, now)` in the first turn from `at` on."""
        if self.died_at is None:
            self._words.append((at, word, subject))
            self._plan(at)

    def _plan(self, due: float) -> None:
        """A turn from `due` on, unless there is one before."""
        if due >= self._turn_at:
            return
        now = self._agenda.now
        turns = math.floor(max(due, self.stopped_until, now) / self._poll_s - self._phase) + 1
        at = (turns + self._phase) * self._poll_s
        if at <= now:
            # By a rounding: that turn is this one.
            at += self._poll_s
        if at < self._turn_at:
            self._turn_at = at
            self._agenda.at(at, self._turn, at)

    def _turn(self, planned: float) -> None:
        if planned != self._turn_at or self.died_at is not None:
            return
        self._turn_at = math.inf
        now = self._agenda.now
        if self.stopped_until > now:
            self._plan(now)
            return
        words, self._words = self._words, []
        for word in words:
            if word[0] <= now:
                word[1](word[2], now)
            else:
                self.note(word[1], word[2], word[0])
        due = self._look_at_time(now)
        if due is not None:
            self._plan(due)

    def _look_at_time(self, now: float) -> float | None:
        """The rest of a turn. Returns when there is something to do next."""
        raise NotImplementedError


class ProducerAgent(Agent):
    """A lessor, and what its effects come to on its engine."""

    def __init__(self, post: Post, producer: Producer, config: LeaseConfig) -> None:
        super().__init__(post)
        self.producer = producer
        self._lessor = Lessor(config, self.incarnation, self._agenda.now)
        self._stood_still = False
        workers = [WorkerFence(0, rank, 1 << 40, FENCE_SLOTS) for rank in range(post.world.fleet.tensor_parallel)]
        self.card = LeaseCard([VERSION], self.incarnation, ADDRESS, workers)
        self.card_bytes = len(self.card.encode())
        post.join(self)

    def grant(self, token: int, now: float) -> None:
        """Its engine has computed a prompt."""
        self._lessor.grant(token, self._look(now))

    def hear(self, word: tuple[int, FromConsumer], now: float) -> None:
        """A message, and whose it is."""
        self._lessor.receive(word[0], word[1], self._look(now))

    def stop(self, until: float) -> None:
        self._look(self._agenda.now)
        self._stood_still = True
        super().stop(until)

    def _look(self, now: float) -> float:
        """The time, at which it looks again. Since it looks all the time, only what it stood still is a gap (R26)."""
        if self._stood_still:
            self._stood_still = self.stopped_until > now
        else:
            # The real agent would have called `expire` every 10 ms up to now.
            self._lessor._clock._last = now
        return now

    def _look_at_time(self, now: float) -> float | None:
        lessor = self._lessor
        lessor.expire(self._look(now))
        while effects := lessor.take_effects():
            for effect in effects:
                self._do(effect)
        return lessor.next_due()

    def _do(self, effect: Effect) -> None:
        if type(effect) is Send:
            if not self._post.send(self, effect.peer, effect.message):
                self._lessor.peer_lost(effect.peer, self._agenda.now)
        elif type(effect) is Revoke:
            lease = self.producer.leases.get(effect.token)
            if lease is not None:
                self.producer.at_step(self._clear, (lease, effect.cause.value))

    def _clear(self, over: tuple[Lease, str]) -> None:
        """A step begins: every worker clears the word, and says so when the step ends."""
        over[0].cleared = True
        self.producer.at_step(self._free, over)

    def _free(self, over: tuple[Lease, str]) -> None:
        self.producer.free(*over)
        self.note(self._ended, over[0].token, self._agenda.now)

    def _ended(self, token: int, now: float) -> None:
        self._lessor.ended(token, self._look(now))


class ConsumerAgent(Agent):
    """A lessee, and what its effects come to on its engine."""

    def __init__(self, post: Post, consumer: Consumer, config: LeaseConfig) -> None:
        super().__init__(post)
        self.lost: set[str] = set()
        """Requests whose lease is lost."""
        self._consumer = consumer
        name = f"consumer-{consumer.index:06d}-" + "0" * 20
        self._lessee = Lessee(name, self.incarnation, ADDRESS, config.stall_limit_s, self._agenda.now)
        post.join(self)

    def track(self, wish: tuple[str, LeaseRef, Endpoint], now: float) -> None:
        """A local request, its lease, and where its producer is to be found."""
        self._lessee.track(*wish, now)

    def untrack(self, holder: str, now: float) -> None:
        """A local request has its data, or ended."""
        self.lost.discard(holder)
        self._lessee.untrack(holder, now)

    def hear(self, word: tuple[int, FromProducer], now: float) -> None:
        """A message, and whose it is."""
        self._lessee.receive(word[0], word[1], now)

    def fetched(self, answer: tuple[Endpoint, LeaseCard | None], now: float) -> None:
        """What was asked of a side channel."""
        self._lessee.card_fetched(answer[0], answer[1], now)

    def _look_at_time(self, now: float) -> float | None:
        lessee = self._lessee
        # An engine that does not stand still makes steps all the time.
        lessee.progress(self._consumer.stalled_since if self._consumer.stands_still else now)
        lessee.advance(now)
        while effects := lessee.take_effects():
            for effect in effects:
                self._do(effect)
        return lessee.next_due()

    def _do(self, effect: Effect) -> None:
        if type(effect) is Send:
            if not self._post.send(self, effect.peer, effect.message):
                self._lessee.peer_lost(effect.peer, self._agenda.now)
        elif type(effect) is Fetch:
            self._post.fetch(effect.endpoint, self)
        elif type(effect) is Lose:
            self.lost.add(effect.holder)
