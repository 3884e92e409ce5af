"""Lessors and lessees on a network that loses, repeats, delays and reorders; their processes freeze, crash and return.

A `World` is the model that `test_protocol_pair` plays scripts in: it carries out the protocol's effects as an agent
would, passes every message as bytes, and calls the `Witness` (invariants) after every tick. All chance comes from its
seed.
"""

import heapq
import random
from dataclasses import dataclass, field

from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseConfig, LeaseRef, Lessee, Lessor, resolve
from kvlease.protocol.effects import Connect, Disconnect, Effect, Fetch, Lose, Revoke, Send
from kvlease.protocol.messages import VERSION, Bye, FromConsumer, FromProducer, Message, decode, encode

TICK_S = 0.08
"""Under the lessor's tolerance: a longer gap between two calls would be forgiven (R26)."""
GHOST_S = 6.0
"""How late a repeated copy may still arrive."""
CONFIG: LeaseConfig = resolve({"kv_lease_duration": 3.0, "kv_lease_max_age": 12.0, "kv_lease_orphan_grace": 0.5})[0]
STALL_LIMIT_S = 4.0


@dataclass(frozen=True)
class Weather:
    """Of the network: probabilities of loss and repetition, and the longest delay."""

    loss: float = 0.0
    repeat: float = 0.0
    delay_s: float = 0.0

    @property
    def hostile(self) -> bool:
        """Worse than a lease promises to live through (L2)."""
        return self.loss > 0 or self.delay_s > 0.3


class Network:
    def __init__(self, chance: random.Random) -> None:
        self.weather = Weather()
        self._chance = chance
        self._count = 0
        self._flying: list[tuple[float, int, int, int, bytes]] = []
        self.sent: list[tuple[int, int, bytes]] = []
        """All that was ever sent, for echoes."""

    def send(self, now: float, source: int, target: int, payload: bytes) -> None:
        self.sent.append((source, target, payload))
        if self._chance.random() >= self.weather.loss:
            self._fly(now + self._chance.random() * self.weather.delay_s, source, target, payload)
        if self._chance.random() < self.weather.repeat:
            self._fly(now + self._chance.random() * GHOST_S, source, target, payload)

    def echo(self, now: float, kind: type[Message], which: int) -> None:
        """A very late copy of an old message arrives."""
        copies = [item for item in self.sent if isinstance(decode(item[2]), kind)]
        if copies:
            self._fly(now, *copies[-1 - which % len(copies)])

    def _fly(self, at: float, source: int, target: int, payload: bytes) -> None:
        self._count += 1
        heapq.heappush(self._flying, (at, self._count, source, target, payload))

    def arrived(self, now: float) -> list[tuple[int, int, bytes]]:
        here = []
        while self._flying and self._flying[0][0] <= now:
            _, _, source, target, payload = heapq.heappop(self._flying)
            here.append((source, target, payload))
        return here


@dataclass
class Process:
    incarnation: int
    alive: bool = True
    corpse_is_seen: bool = True
    """Dead: whether the transport of those who send to it notices."""
    frozen: bool = False
    wakes_at: float = float("-inf")
    connected: set[int] = field(default_factory=set)
    inbox: list[tuple[int, bytes]] = field(default_factory=list)
    troubled_at: float = float("-inf")

    @property
    def running(self) -> bool:
        return self.alive and not self.frozen

    @property
    def address(self) -> bytes:
        return self.incarnation.to_bytes(8, "big")


@dataclass
class Producer(Process):
    lessor: Lessor = field(kw_only=True)
    clearing: list[tuple[float, int]] = field(default_factory=list)
    """When every worker will have cleared the word of which token."""


@dataclass(frozen=True)
class Wish:
    ref: LeaseRef
    since: float


@dataclass
class Consumer(Process):
    lessee: Lessee = field(kw_only=True)
    wants: dict[str, Wish] = field(default_factory=dict)
    fetches: list[tuple[float, Endpoint]] = field(default_factory=list)
    stalled_until: float = float("-inf")
    """Its agent runs, its engine is stuck in one step."""


class Witness:
    """Sees everything that happens; `pair_witness.Strict` objects."""

    def revoked(self, world: "World", producer: Producer, effect: Revoke) -> None: ...
    def lost(self, world: "World", consumer: Consumer, holder: str) -> None: ...
    def ticked(self, world: "World") -> None: ...


class World:
    def __init__(self, seed: int, witness: Witness, producers: int = 2, consumers: int = 3) -> None:
        self.now = 1000.0
        self.chance = random.Random(seed)
        self.network = Network(self.chance)
        self.witness = witness
        self.refs: list[tuple[LeaseRef, Endpoint]] = []
        self.ref_of: dict[int, LeaseRef] = {}
        self.read_by_others: set[int] = set()
        """Tokens whose blocks a stock consumer has read to the end: their leases are over."""
        self.doubted_at: dict[tuple[int, int], float] = {}
        """When a (producer, consumer) pair was last told, perhaps falsely, that one of them is dead."""
        self.everyone: dict[int, Producer | Consumer] = {}
        self.rough_at = float("-inf")
        self._names = 0
        self.producers = [self._new_producer() for _ in range(producers)]
        self.consumers = [self._new_consumer() for _ in range(consumers)]

    # -- who there is

    def _new_producer(self) -> Producer:
        name = self.chance.getrandbits(64)
        producer = Producer(name, lessor=Lessor(CONFIG, name, self.now))
        self.everyone[name] = producer
        return producer

    def _new_consumer(self) -> Consumer:
        name = self.chance.getrandbits(64)
        lessee = Lessee(f"decode-{name:x}", name, name.to_bytes(8, "big"), STALL_LIMIT_S, self.now)
        consumer = Consumer(name, lessee=lessee)
        self.everyone[name] = consumer
        return consumer

    def producer_of(self, ref: LeaseRef) -> Producer:
        producer = self.everyone[ref.incarnation]
        assert isinstance(producer, Producer)
        return producer

    def refs_of(self, producer: int) -> list[LeaseRef]:
        return [ref for ref, _ in self.refs if ref.incarnation == producer]

    # -- what users and engines do

    def prefill(self, p: int) -> None:
        producer = self.producers[p]
        if producer.running:
            token = self.chance.getrandbits(64) | 1
            producer.lessor.grant(token, self.now)
            self.ref_of[token] = LeaseRef(producer.incarnation, token, 0, 3000, Fingerprint(1, 0))
            self.refs.append((self.ref_of[token], (f"p{p}", 5600)))

    def request(self, d: int, which: int, sibling: bool = False) -> None:
        """A request with one of the latest references: a router's first try, its retry elsewhere, a sibling."""
        consumer = self.consumers[d]
        if self.refs and consumer.running:
            ref, endpoint = self.refs[-1 - which % len(self.refs)]
            self._names += 1
            holder = f"{'1_' if sibling else ''}cmpl-{self._names}"
            consumer.wants[holder] = Wish(ref, self.now)
            consumer.lessee.track(holder, ref, endpoint, self.now)

    def finish(self, d: int, which: int) -> None:
        """The data was loaded, or the request was aborted."""
        consumer = self.consumers[d]
        if consumer.wants and consumer.running:
            holder = list(consumer.wants)[which % len(consumer.wants)]
            del consumer.wants[holder]
            consumer.lessee.untrack(holder, self.now)

    def read_by_other(self, which: int) -> None:
        """A stock consumer told every worker that it has read the data of this lease (R9)."""
        if self.refs:
            ref, _ = self.refs[-1 - which % len(self.refs)]
            if (producer := self.producer_of(ref)).running:
                self.read_by_others.add(ref.token)
                producer.lessor.ended(ref.token, self.now)

    # -- what goes wrong

    def crash(self, process: Process, seen: bool) -> None:
        process.alive, process.corpse_is_seen, process.frozen = False, seen, False
        if isinstance(process, Consumer):
            process.wants.clear()

    def restart_consumer(self, d: int, seen: bool) -> None:
        self.crash(self.consumers[d], seen)
        self.consumers[d] = self._new_consumer()

    def restart_producer(self, p: int) -> None:
        if self.producers[p].alive:
            self.crash(self.producers[p], seen=True)
        self.producers[p] = self._new_producer()

    def shut_down_consumer(self, d: int) -> None:
        consumer = self.consumers[d]
        if consumer.running:
            consumer.lessee.close()
            self._carry_out(consumer, consumer.lessee.take_effects())
            self.restart_consumer(d, seen=False)

    def freeze(self, process: Process, duration_s: float) -> None:
        """Nothing of it runs for a while: SIGSTOP, a paused machine, memory being swapped."""
        process.wakes_at, process.frozen = self.now + duration_s, process.alive

    def report_lost(self, at: Process, other: Process) -> None:
        """The transport of `at` says that `other` is dead, which may be false."""
        if at.running:
            at.troubled_at = other.troubled_at = self.now
            self.doubted_at[at.incarnation, other.incarnation] = self.now
            self._tell_lost(at, other.incarnation)

    # -- time

    def run(self, duration_s: float) -> None:
        for _ in range(max(1, round(duration_s / TICK_S))):
            self.tick()

    def tick(self) -> None:
        self.now += TICK_S
        if self.network.weather.hostile:
            self.rough_at = self.now
        for source, target, payload in self.network.arrived(self.now):
            if (process := self.everyone[target]).alive:
                process.inbox.append((source, payload))
        for anyone in (*self.producers, *self.consumers):
            anyone.frozen = anyone.alive and self.now < anyone.wakes_at
            if anyone.frozen:
                anyone.troubled_at = self.now
        for consumer in self.consumers:
            if self.now < consumer.stalled_until:
                consumer.troubled_at = self.now
            if consumer.running:
                self._turn_consumer(consumer)
        for producer in self.producers:
            if producer.running:
                self._turn_producer(producer)
        self.witness.ticked(self)

    def _turn_producer(self, producer: Producer) -> None:
        lessor = producer.lessor
        for source, payload in producer.inbox:
            message = decode(payload)
            assert isinstance(message, FromConsumer)
            lessor.receive(source, message, self.now)
        producer.inbox.clear()
        for item in [c for c in producer.clearing if c[0] <= self.now]:
            producer.clearing.remove(item)
            lessor.ended(item[1], self.now)
        lessor.expire(self.now)
        self._carry_out(producer, lessor.take_effects())

    def _turn_consumer(self, consumer: Consumer) -> None:
        lessee = consumer.lessee
        if self.now >= consumer.stalled_until:
            lessee.progress(self.now)
        for source, payload in consumer.inbox:
            message = decode(payload)
            assert isinstance(message, FromProducer)
            lessee.receive(source, message, self.now)
        consumer.inbox.clear()
        for item in [f for f in consumer.fetches if f[0] <= self.now]:
            consumer.fetches.remove(item)
            lessee.card_fetched(item[1], self._card_at(item[1]), self.now)
        lessee.advance(self.now)
        self._carry_out(consumer, lessee.take_effects())

    def _card_at(self, endpoint: Endpoint) -> LeaseCard | None:
        producer = self.producers[int(endpoint[0][1:])]
        if not producer.running or self.chance.random() < self.network.weather.loss:
            return None
        return LeaseCard.decode(LeaseCard([VERSION], producer.incarnation, producer.address, []).encode())

    # -- effects

    def _carry_out(self, process: Producer | Consumer, effects: list[Effect]) -> None:
        dead: list[int] = []
        for effect in effects:
            match effect:
                case Send(peer, message):
                    if not self._send(process, peer, message):
                        dead.append(peer)
                case Connect(peer, address):
                    assert address == self.everyone[peer].address
                    process.connected.add(peer)
                case Disconnect(peer):
                    process.connected.discard(peer)
                case Fetch(endpoint):
                    assert isinstance(process, Consumer)
                    process.fetches.append((self.now + self.chance.random() * 0.3, endpoint))
                case Revoke(token):
                    assert isinstance(process, Producer)
                    process.clearing.append((self.now + self.chance.random(), token))
                    self.witness.revoked(self, process, effect)
                case Lose(holder):
                    assert isinstance(process, Consumer)
                    self.witness.lost(self, process, holder)
        for peer in dead:
            self._tell_lost(process, peer)

    def _send(self, process: Process, peer: int, message: Message) -> bool:
        """Whether the transport took it: it notices a dead peer, unless the whole machine vanished."""
        assert peer in process.connected, f"{message} to a peer that was not connected, or was disconnected"
        self.network.send(self.now, process.incarnation, peer, encode(message))
        other = self.everyone[peer]
        return other.alive or not other.corpse_is_seen or isinstance(message, Bye)

    def _tell_lost(self, process: Process, peer: int) -> None:
        if isinstance(process, Producer):
            process.lessor.peer_lost(peer, self.now)
            self._carry_out(process, process.lessor.take_effects())
        elif isinstance(process, Consumer):
            process.lessee.peer_lost(peer, self.now)
            self._carry_out(process, process.lessee.take_effects())
