"""vLLM's own lease, as of 0.32: heartbeats that ride on engine steps.

From `nixl/base_scheduler.py` and `base_worker.py` there. `kv_lease_duration` d is a whole number of seconds. A consumer
names, every d // 6 seconds at most and in a step, all requests it has not read yet, to every worker of each of their
producers; the first heartbeat to a producer only makes the acquaintance. A producer hears it in a step, and extends
each lease that it names to d * 2 // 3 from then. Nothing is acknowledged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvlease.errors import ConfigError
from kvlease.fleet.decode import Consumer
from kvlease.fleet.policies.notices import ID_BYTES, NoticeLeasing
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Lease, Request

if TYPE_CHECKING:
    from kvlease.fleet.leasing import Leasing
    from kvlease.fleet.world import World


@dataclass(frozen=True, slots=True)
class Stock:
    """`duration_s`: `kv_lease_duration`, whole seconds from 1. Raises `ConfigError`."""

    duration_s: int = 30

    def __post_init__(self) -> None:
        if not isinstance(self.duration_s, int) or isinstance(self.duration_s, bool) or self.duration_s < 1:
            raise ConfigError(
                f"the duration of vLLM's lease is {self.duration_s!r}: it must be a whole number of seconds from 1, "
                "such as 30"
            )

    @property
    def name(self) -> str:
        return f"vLLM {self.duration_s} s"

    @property
    def kind(self) -> str:
        return "stock"

    @property
    def settings(self) -> Mapping[str, float]:
        return {"term_s": self.duration_s, "extension_s": self.extension_s, "interval_s": self.interval_s}

    @property
    def extension_s(self) -> int:
        return self.duration_s * 2 // 3

    @property
    def interval_s(self) -> int:
        """0 below 6 s: then a heartbeat leaves with every step."""
        return self.duration_s // 6

    def open(self, world: "World") -> "Leasing":
        return HeartbeatLeasing(world, self)


@dataclass(slots=True)
class _Heart:
    """What one consumer renews."""

    leases: dict[Producer, dict[Request, Lease]] = field(default_factory=dict)
    acquainted: set[tuple[int, int]] = field(default_factory=set)
    """Lives of producers: index and life."""
    last_s: float = float("-inf")
    beating: bool = False
    """A beat is planned."""


class HeartbeatLeasing(NoticeLeasing):
    """`Leasing` with heartbeats."""

    def __init__(self, world: "World", policy: Stock) -> None:
        super().__init__(world, policy.duration_s)
        self._policy = policy
        self._hearts = [_Heart() for _ in world.consumers]

    def wanted(self, request: Request, consumer: Consumer) -> None:
        assert request.lease is not None
        heart = self._hearts[consumer.index]
        heart.leases.setdefault(request.lease.producer, {})[request] = request.lease
        if not heart.beating:
            heart.beating = True
            now = self._world.agenda.now
            at = max(now + consumer.step_s / 2, heart.last_s + self._policy.interval_s)
            self._world.agenda.at(at, self._beat, (consumer, consumer.life))

    def unwanted(self, request: Request, lease: Lease, consumer: Consumer) -> None:
        heart = self._hearts[consumer.index]
        if (leases := heart.leases.get(lease.producer)) is not None and leases.pop(request, lease) and not leases:
            del heart.leases[lease.producer]
        super().unwanted(request, lease, consumer)

    def _beat(self, planned: tuple[Consumer, int]) -> None:
        consumer, life = planned
        agenda, heart = self._world.agenda, self._hearts[consumer.index]
        if life != consumer.life:
            return
        if consumer.stands_still:
            agenda.at(consumer.stalled_until, self._beat, planned)
            return
        if not heart.leases:
            heart.beating = False
            return
        heart.last_s = agenda.now
        for producer, leases in heart.leases.items():
            self._send_heartbeat(heart, producer, list(leases.values()))
        agenda.at(agenda.now + max(self._policy.interval_s, consumer.step_s), self._beat, planned)

    def _send_heartbeat(self, heart: _Heart, producer: Producer, leases: list[Lease]) -> None:
        world = self._world
        life = (producer.index, producer.life)
        if life not in heart.acquainted:
            if producer.alive:
                heart.acquainted.add(life)
            return
        workers = world.fleet.tensor_parallel
        size = len("HB:") + len(leases) * (ID_BYTES + 1) - 1
        world.books.send("heartbeat", workers * size, workers, world.agenda.now)
        world.agenda.at(
            world.agenda.now + world.fleet.latency_s, self._hear_heartbeat, (producer, producer.life, leases)
        )

    def _hear_heartbeat(self, heartbeat: tuple[Producer, int, list[Lease]]) -> None:
        producer, life, leases = heartbeat
        if producer.life == life:
            producer.at_step(self._extend, leases)

    def _extend(self, leases: list[Lease]) -> None:
        until = self._world.agenda.now + self._policy.extension_s
        for lease in leases:
            lease.expires = max(lease.expires, until)

    def died(self, engine: Producer | Consumer) -> None:
        if isinstance(engine, Consumer):
            self._hearts[engine.index] = _Heart()
