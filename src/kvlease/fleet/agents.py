"""Lease agents of the fleet: the real lessor and lessee, driven by what happens instead of by polling.

A real agent takes a turn every 10 ms (`agent/loop.py`): words of its engine, messages, then what time does. Here it
takes its turns at such times, too, but only those before which it heard something, or a deadline of its own was over.
"""

import math
from collections.abc import Callable
from typing import Any

from kvlease.fleet.decode import Consumer
from kvlease.fleet.network import Post
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Lease
from kvlease.protocol import Endpoint, LeaseCard, LeaseConfig, LeaseRef, Lessee, Lessor, WorkerFence
from kvlease.protocol.effects import Effect, Fetch, Lose, Revoke, Send
from kvlease.protocol.messages import VERSION, FromConsumer, FromProducer

ADDRESS = bytes(450)
"""As long as a NIXL agent's metadata without registered memory."""
FENCE_SLOTS = 1 << 16

Word = Callable[[Any, float], None]
"""Called with what it is about and the time of the turn."""


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
        post.serve(self)

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
            self._lessor.was_awake(now)
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
