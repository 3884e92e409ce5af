"""vLLM's own lease, as of 0.32: heartbeats that are sent in engine steps.

It follows `base_scheduler` and `base_worker` of its `nixl`. `kv_lease_duration` d is a whole number of seconds. In a
step, and at most every d // 6 seconds, a consumer names all requests that it has not read yet to every worker of each
of their producers; the first heartbeat to a producer only makes the connection. A producer hears it in a step, and
extends each lease that it names to d * 2 // 3 from then. Nothing is acknowledged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvlease.errors import ConfigError
from kvlease.fleet.context import FleetContext
from kvlease.fleet.leasing import HoldingEngine, Leasing, LeasingEngine, ReadingEngine
from kvlease.fleet.policies.notices import ID_BYTES, NoticeLeasing
from kvlease.fleet.records import EngineLife, FleetLease, FleetRequest


@dataclass(frozen=True, slots=True)
class Stock:
    """The policy of vLLM's lease. `duration_s`: `kv_lease_duration`, whole seconds from 1. Raises `ConfigError`."""

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
    def references_last(self) -> bool:
        return False

    @property
    def settings(self) -> Mapping[str, float]:
        return {"term_s": self.duration_s, "extension_s": self.extension_s, "interval_s": self.interval_s}

    @property
    def extension_s(self) -> int:
        return self.duration_s * 2 // 3

    @property
    def interval_s(self) -> int:
        """The seconds between heartbeats; 0 for durations below 6 s: a heartbeat is sent in every step."""
        return self.duration_s // 6

    def open(self, context: FleetContext) -> Leasing:
        return HeartbeatLeasing(context, self)


@dataclass(slots=True)
class _Heart:
    """The heartbeats of one consumer in one of its lives."""

    leases: dict[int, dict[FleetRequest, FleetLease]] = field(default_factory=dict)
    """The leases that it renews, by the number of their producer."""
    acquainted: set[EngineLife] = field(default_factory=set)
    """The lives of producers that it is connected with."""
    last_s: float = float("-inf")
    beating: bool = False
    """True while a heartbeat is planned."""


class HeartbeatLeasing(NoticeLeasing):
    """`Leasing` under vLLM's lease, with heartbeats."""

    def __init__(self, context: FleetContext, policy: Stock) -> None:
        super().__init__(context, policy.duration_s)
        self._policy = policy
        self._hearts: dict[int, _Heart] = {}
        """The heartbeats by the number of the consumer."""

    def started(self, engine: LeasingEngine) -> None:
        super().started(engine)
        if engine.side == "consumer":
            self._hearts[engine.index] = _Heart()

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        heart = self._hearts[consumer.index]
        heart.leases.setdefault(lease.producer, {})[request] = lease
        if not heart.beating:
            heart.beating = True
            now = self._agenda.now
            at = max(now + consumer.step_s / 2, heart.last_s + self._policy.interval_s)
            self._agenda.at(at, self._beat, (consumer, consumer.life))

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        heart = self._hearts[consumer.index]
        if (leases := heart.leases.get(lease.producer)) is not None and leases.pop(request, lease) and not leases:
            del heart.leases[lease.producer]
        super().unwanted(request, lease, consumer)

    def _beat(self, planned: tuple[ReadingEngine, EngineLife]) -> None:
        consumer, life = planned
        agenda, heart = self._agenda, self._hearts[consumer.index]
        if life.over:
            return
        if consumer.stands_still:
            agenda.at(consumer.stalled_until, self._beat, planned)
            return
        if not heart.leases:
            heart.beating = False
            return
        heart.last_s = agenda.now
        for producer, leases in heart.leases.items():
            self._send_heartbeat(heart, self._producers[producer], list(leases.values()))
        agenda.at(agenda.now + max(self._policy.interval_s, consumer.step_s), self._beat, planned)

    def _send_heartbeat(self, heart: _Heart, producer: HoldingEngine, leases: list[FleetLease]) -> None:
        if producer.life not in heart.acquainted:
            if producer.alive:
                heart.acquainted.add(producer.life)
            return
        now, workers = self._agenda.now, self._fleet.tensor_parallel
        size = len("HB:") + len(leases) * (ID_BYTES + 1) - 1
        self._books.send("heartbeat", workers * size, workers, now)
        self._agenda.at(now + self._fleet.latency_s, self._hear_heartbeat, (producer, producer.life, leases))

    def _hear_heartbeat(self, heartbeat: tuple[HoldingEngine, EngineLife, list[FleetLease]]) -> None:
        producer, life, leases = heartbeat
        if not life.over:
            producer.at_step(self._extend, leases)

    def _extend(self, leases: list[FleetLease]) -> None:
        until = self._agenda.now + self._policy.extension_s
        for lease in leases:
            lease.expires = max(lease.expires, until)
