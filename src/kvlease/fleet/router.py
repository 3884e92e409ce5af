"""The router, and the clients behind it: who computes and who decodes, what is tried again, who loses patience.

It takes the less loaded of two engines drawn at random (Mitzenmacher 2001), knows at once when an engine that has a
request of its died, and picks the consumer after the prefill (R4).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from kvlease.fleet.arrival import Arrival
from kvlease.fleet.decode import Consumer
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Request, Stage

if TYPE_CHECKING:
    from kvlease.fleet.world import World

E = TypeVar("E", Producer, Consumer)


class Router:
    """Brings requests to engines, and answers to clients."""

    def __init__(self, world: "World") -> None:
        self.ended = 0
        self.on_ended: Callable[[int], None] | None = None
        """Told of every request that ends: how many have."""
        self._world = world
        self._fleet = world.fleet
        self._draw = world.chance.of("router").random
        self._clients = world.chance.of("clients")
        self._losses = world.chance.of("losses")
        self._patient: deque[Request] = deque()

    # -- a request's way ---------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival, number: int) -> None:
        """A client asks."""
        world, fleet = self._world, self._fleet
        now = world.agenda.now
        request = Request(number, now, arrival.prompt, arrival.output)
        world.books.arrive(now)
        if (
            fleet.blocks_of(request.prompt) > fleet.producer_blocks
            or fleet.blocks_of(request.prompt + request.output) > fleet.consumer_blocks
        ):
            self.end(request, "failed")
            request.stage = Stage.ENDED
            return
        self._expect(request, now)
        world.agenda.at(now + fleet.hop_s, self._to_producer, (request, 0))

    def _to_producer(self, turn: tuple[Request, int]) -> None:
        request = turn[0]
        if request.gone or request.turn != turn[1]:
            return
        producer = self._pick(self._world.producers)
        if producer is None:
            self.end(request, "failed")
        else:
            producer.submit(request)

    def prefilled(self, request: Request) -> None:
        """Its KV waits on a producer."""
        request.stage = Stage.ROUTED
        if self._fleet.lost_share and self._losses.random() < self._fleet.lost_share:
            self._give_up_lease(request)
            if self._fleet.patience_s is None:
                self._leave(request, "aborted")
            else:
                self._world.agenda.at(request.arrived_at + self._fleet.patience_s, self._give_up, request)
            return
        self._world.agenda.at(self._world.agenda.now + self._fleet.hop_s, self._to_consumer, (request, request.turn))

    def _to_consumer(self, turn: tuple[Request, int]) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if request.gone:
            # Nobody else knows of the lease.
            self._give_up_lease(request)
            return
        consumer = self._pick(self._world.consumers)
        if consumer is None:
            self._give_up_lease(request)
            self.end(request, "failed")
        else:
            consumer.submit(request)

    def _pick(self, engines: Sequence[E]) -> E | None:
        draw, count = self._draw, len(engines)
        one, other = engines[int(draw() * count)], engines[int(draw() * count)]
        if one.alive and other.alive:
            return one if one.load <= other.load else other
        return min((engine for engine in engines if engine.alive), key=lambda engine: engine.load, default=None)

    # -- its end -----------------------------------------------------------------------------------------------------

    def end(self, request: Request, how: str) -> None:
        """The client has its answer, or leaves without."""
        request.gone = True
        self._world.books.end(request, how, request.stage is Stage.RUNNING, self._world.agenda.now)
        self.ended += 1
        if self.on_ended is not None:
            self.on_ended(self.ended)

    def _expect(self, request: Request, now: float) -> None:
        fleet = self._fleet
        if fleet.abort_share and self._clients.random() < fleet.abort_share:
            after_s = self._clients.expovariate(1 / fleet.abort_after_s) if fleet.abort_after_s else 0.0
            self._world.agenda.at(now + after_s, self._abort, request)
        if fleet.patience_s is not None:
            self._patient.append(request)
            if len(self._patient) == 1:
                self._world.agenda.at(now + fleet.patience_s, self._lose_patience)

    def _abort(self, request: Request) -> None:
        if not request.gone:
            self._leave(request, "aborted")

    def _give_up(self, request: Request) -> None:
        if not request.gone:
            self._leave(request, "gave_up")

    def _lose_patience(self, _: object) -> None:
        """All are as patient as each other, so whoever came first leaves first: one event for all of them."""
        assert self._fleet.patience_s is not None
        now, patience_s = self._world.agenda.now, self._fleet.patience_s
        while self._patient:
            first = self._patient[0]
            if first.gone or first.stage is Stage.RUNNING:
                # One that has to begin anew after its answer began has no patience left to lose.
                self._patient.popleft()
            elif first.arrived_at + patience_s <= now:
                self._patient.popleft()
                self._leave(first, "gave_up")
            else:
                self._world.agenda.at(first.arrived_at + patience_s, self._lose_patience)
                return

    def _leave(self, request: Request, how: str) -> None:
        self.end(request, how)
        if request.stage is Stage.PREFILL:
            assert request.producer is not None
            request.producer.forget(request)
        elif request.consumer is not None:
            request.consumer.abort(request)

    # -- engines that die --------------------------------------------------------------------------------------------

    def producer_died(self, victims: Sequence[Request]) -> None:
        """These were queued on it, or being computed."""
        for request in victims:
            self._try_again(request)

    def consumer_died(self, victims: Sequence[Request]) -> None:
        """These were on it."""
        for request in victims:
            lease = request.lease
            take_over = self._fleet.takeover and lease is not None and lease.wanted and not lease.crashed
            if not take_over or request.gone:
                self._give_up_lease(request)
            self._try_again(request)

    def _try_again(self, request: Request) -> None:
        request.turn += 1
        request.producer = request.consumer = None
        request.late = request.tainted = False
        if request.gone:
            request.stage = Stage.ENDED
            return
        request.tries += 1
        now = self._world.agenda.now
        if request.tries > self._fleet.retries or not any(consumer.alive for consumer in self._world.consumers):
            self._give_up_lease(request)
            self.end(request, "failed")
            request.stage = Stage.ENDED
            return
        if request.stage is Stage.RUNNING:
            self._world.books.interrupt_answer(now)
        request.stage = Stage.ROUTED
        if request.lease is None:
            then = self._to_producer
        else:
            then = self._to_consumer
            self._world.books.counts["takeovers"] += 1
        self._world.agenda.at(now + self._fleet.retry_pause_s + self._fleet.hop_s, then, (request, request.turn))

    def _give_up_lease(self, request: Request) -> None:
        lease, request.lease = request.lease, None
        if lease is not None and not lease.crashed:
            self._world.books.settle(lease, False, self._world.agenda.now)
