"""The router and its clients, which choose the engines of a request, try it again, or give it up.

The router takes the less loaded of two engines drawn at random (Mitzenmacher 2001), knows at once when an engine with a
request of its own has died, and picks the consumer after the prefill (R4).
"""

from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol, TypeVar

from kvlease.fleet.context import FleetContext
from kvlease.fleet.records import FleetLease, FleetRequest, RequestStage
from kvlease.fleet.traffic.arrival import Arrival


class RoutedEngine(Protocol):
    """An engine as the router uses it."""

    @property
    def alive(self) -> bool: ...

    @property
    def load(self) -> int:
        """The tokens of all requests there."""

    def submit(self, request: FleetRequest) -> None:
        """Takes a request to prefill, or to read and decode."""


class PrefillEngine(RoutedEngine, Protocol):
    """A producer as the router uses it."""

    def forget(self, request: FleetRequest) -> None:
        """Forgets a request whose client has left."""


class DecodeEngine(RoutedEngine, Protocol):
    """A consumer as the router uses it."""

    def abort(self, request: FleetRequest) -> None:
        """Ends a request whose client has left."""


E = TypeVar("E", bound=RoutedEngine)
_load_of = attrgetter("load")


class FleetRouter:
    """Brings requests to engines, and answers to clients."""

    def __init__(self, context: FleetContext, references_last: bool) -> None:
        """`references_last`: a reference may be used again, whatever became of its lease."""
        self.ended = 0
        self.on_ended: Callable[[int], None] | None = None
        """Is called at the end of every request with the number of ended ones."""
        self._fleet = context.fleet
        self._references_last = references_last
        self._agenda = context.agenda
        self._books = context.books
        self._producers: Sequence[PrefillEngine] = ()
        self._consumers: Sequence[DecodeEngine] = ()
        self._draw = context.chance.of("router").random
        self._clients = context.chance.of("clients")
        self._losses = context.chance.of("losses")
        self._patient: deque[FleetRequest] = deque()

    def connect(self, producers: Sequence[PrefillEngine], consumers: Sequence[DecodeEngine]) -> None:
        """Sends requests to these engines from now on, which are in the order of their numbers."""
        self._producers, self._consumers = producers, consumers

    # -- a request's way ---------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival, number: int) -> None:
        """Takes a request of a client."""
        fleet, now = self._fleet, self._agenda.now
        request = FleetRequest(number, now, arrival.prompt, arrival.output)
        self._books.arrive(now)
        if (
            fleet.blocks_of(request.prompt) > fleet.producer_blocks
            or fleet.blocks_of(request.prompt + request.output) > fleet.consumer_blocks
        ):
            self.end(request, "failed")
            request.stage = RequestStage.ENDED
            return
        self._expect(request, now)
        self._agenda.at(now + fleet.hop_s, self._to_producer, (request, 0))

    def _to_producer(self, turn: tuple[FleetRequest, int]) -> None:
        request = turn[0]
        if request.gone or request.turn != turn[1]:
            return
        producer = self._pick(self._producers)
        if producer is None:
            self.end(request, "failed")
        else:
            producer.submit(request)

    def prefilled(self, request: FleetRequest) -> None:
        """Takes a request back whose KV cache waits on a producer."""
        request.stage = RequestStage.ROUTED
        request.reference = request.lease
        if self._fleet.lost_share and self._losses.random() < self._fleet.lost_share:
            self._give_up_lease(request)
            if self._fleet.patience_s is None:
                self._leave(request, "aborted")
            else:
                self._agenda.at(request.arrived_at + self._fleet.patience_s, self._give_up, request)
            return
        self._agenda.at(self._agenda.now + self._fleet.hop_s, self._to_consumer, (request, request.turn))

    def _to_consumer(self, turn: tuple[FleetRequest, int]) -> None:
        request = turn[0]
        if request.turn != turn[1]:
            return
        if request.gone:
            # Nobody else knows of the lease, so it is given up here.
            self._give_up_lease(request)
            return
        consumer = self._pick(self._consumers)
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
        return min([engine for engine in engines if engine.alive], key=_load_of, default=None)

    # -- its end -----------------------------------------------------------------------------------------------------

    def end(self, request: FleetRequest, how: str) -> None:
        """Ends a request: the client has its answer, or leaves without one."""
        request.gone = True
        self._books.end(request, how, request.stage is RequestStage.RUNNING, self._agenda.now)
        self.ended += 1
        if self.on_ended is not None:
            self.on_ended(self.ended)

    def _expect(self, request: FleetRequest, now: float) -> None:
        fleet = self._fleet
        if fleet.abort_share and self._clients.random() < fleet.abort_share:
            after_s = self._clients.expovariate(1 / fleet.abort_after_s) if fleet.abort_after_s else 0.0
            self._agenda.at(now + after_s, self._abort, request)
        if fleet.patience_s is not None:
            self._patient.append(request)
            if len(self._patient) == 1:
                self._agenda.at(now + fleet.patience_s, self._lose_patience)

    def _abort(self, request: FleetRequest) -> None:
        if not request.gone:
            self._leave(request, "aborted")

    def _give_up(self, request: FleetRequest) -> None:
        if not request.gone:
            self._leave(request, "gave_up")

    def _lose_patience(self, _: object) -> None:
        """Gives up requests whose clients have waited too long. All wait equally long, so one event serves them all."""
        assert self._fleet.patience_s is not None
        now, patience_s = self._agenda.now, self._fleet.patience_s
        while self._patient:
            first = self._patient[0]
            if first.gone or first.stage is RequestStage.RUNNING:
                # A request whose answer has begun once is not given up, even if it has to begin anew.
                self._patient.popleft()
            elif first.arrived_at + patience_s <= now:
                self._patient.popleft()
                self._leave(first, "gave_up")
            else:
                self._agenda.at(first.arrived_at + patience_s, self._lose_patience)
                return

    def _leave(self, request: FleetRequest, how: str) -> None:
        self.end(request, how)
        if request.stage is RequestStage.PREFILL:
            assert request.producer is not None
            self._producers[request.producer].forget(request)
        elif request.consumer is not None:
            self._consumers[request.consumer].abort(request)

    # -- engines that die --------------------------------------------------------------------------------------------

    def producer_died(self, victims: Sequence[FleetRequest]) -> None:
        """Tries requests again that were queued or computed on a dead producer."""
        for request in victims:
            self._try_again(request)

    def consumer_died(self, victims: Sequence[FleetRequest]) -> None:
        """Tries requests again that were on a dead consumer."""
        for request in victims:
            lease = self._lease_to_hand_on(request)
            if lease is None:
                self._give_up_lease(request)
            elif not lease.wanted:
                self._books.want_again(lease, self._agenda.now)
            request.lease = lease
            self._try_again(request)

    def _lease_to_hand_on(self, request: FleetRequest) -> FleetLease | None:
        """Returns the lease whose reference a second consumer gets, after the first one's death."""
        lease = request.lease
        if lease is None and self._references_last:
            lease = request.reference
        if not self._fleet.takeover or request.gone or lease is None or lease.crashed:
            return None
        return lease if lease.wanted or self._references_last else None

    def _try_again(self, request: FleetRequest) -> None:
        request.turn += 1
        request.producer = request.consumer = None
        request.late = request.tainted = False
        if request.gone:
            request.stage = RequestStage.ENDED
            return
        request.tries += 1
        now = self._agenda.now
        if request.tries > self._fleet.retries or not any(consumer.alive for consumer in self._consumers):
            self._give_up_lease(request)
            self.end(request, "failed")
            request.stage = RequestStage.ENDED
            return
        if request.stage is RequestStage.RUNNING:
            self._books.interrupt_answer(now)
        request.stage = RequestStage.ROUTED
        if request.lease is None:
            then = self._to_producer
        else:
            then = self._to_consumer
            self._books.counts["takeovers"] += 1
        self._agenda.at(now + self._fleet.retry_pause_s + self._fleet.hop_s, then, (request, request.turn))

    def _give_up_lease(self, request: FleetRequest) -> None:
        lease, request.lease = request.lease, None
        if lease is not None and not lease.crashed:
            self._books.settle(lease, False, self._agenda.now)
