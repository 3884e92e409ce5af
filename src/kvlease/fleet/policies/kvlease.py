"""kvlease: the protocol's own code, one lessor on every producer and one lessee on every consumer.

What is imitated is what lies around it: the wire, the agents' pauses between looks at it, the engines' steps, and the
fence, which here is a word that a step of the producer clears (`Lease.cleared`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvlease.fleet.agents import ConsumerAgent, ProducerAgent
from kvlease.fleet.decode import Consumer
from kvlease.fleet.leasing import Verdict
from kvlease.fleet.network import Post
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Lease, Request
from kvlease.protocol import Fingerprint, LeaseConfig, LeaseRef, resolve
from kvlease.protocol.messages import milliseconds

if TYPE_CHECKING:
    from kvlease.fleet.leasing import Leasing
    from kvlease.fleet.world import World

FENCE_BYTES = 8
_ANY_PROMPT = Fingerprint(1, 0)
"""No router here mixes requests up."""


@dataclass(frozen=True, slots=True)
class Kvlease:
    """`extra_config`: settings as an operator writes them, `kv_lease_duration` and so on. Raises `ConfigError`."""

    extra_config: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config()

    def config(self) -> LeaseConfig:
        """What they come to, with what is derived from them."""
        return resolve(self.extra_config)[0]

    @property
    def name(self) -> str:
        others = [f"{key.removeprefix('kv_lease_')} {value}" for key, value in self.extra_config.items()]
        beside = [other for other in others if not other.startswith("duration ")]
        return ", ".join([f"kvlease {self.config().duration_s:g} s", *beside])

    @property
    def kind(self) -> str:
        return "kvlease"

    @property
    def settings(self) -> Mapping[str, float]:
        config = self.config()
        return {
            "term_s": config.duration_s,
            "extension_s": config.extension_s,
            "interval_s": config.renew_interval_s,
            "orphan_grace_s": config.orphan_grace_s,
            "max_age_s": config.max_age_s,
            "stall_limit_s": config.stall_limit_s,
            "probe_interval_s": config.probe_interval_s,
        }

    def open(self, world: "World") -> "Leasing":
        return FencedLeasing(world, self.config())


class FencedLeasing:
    """`Leasing` by lessors and lessees."""

    def __init__(self, world: "World", config: LeaseConfig) -> None:
        self._world = world
        self._config = config
        self._term_ms = milliseconds(config.duration_s)
        self._post = Post(world)
        self._lessors = [ProducerAgent(self._post, producer, config) for producer in world.producers]
        self._lessees = [ConsumerAgent(self._post, consumer, config) for consumer in world.consumers]

    def granted(self, lease: Lease) -> None:
        agent = self._lessors[lease.producer.index]
        agent.note(agent.grant, lease.token, self._world.agenda.now)

    def wanted(self, request: Request, consumer: Consumer) -> None:
        lease = request.lease
        assert lease is not None
        # The reference has the incarnation that granted it, which may be dead by now.
        incarnation = self._post.incarnation(lease.producer.index, lease.life)
        ref = LeaseRef(incarnation, lease.token, 0, self._term_ms, _ANY_PROMPT)
        agent = self._lessees[consumer.index]
        agent.note(agent.track, (_holder(request), ref, ("producer", lease.producer.index)), self._world.agenda.now)

    def unwanted(self, request: Request, lease: Lease, consumer: Consumer) -> None:  # noqa: ARG002
        agent = self._lessees[consumer.index]
        agent.note(agent.untrack, _holder(request), self._world.agenda.now)

    def data_in(self, lease: Lease) -> bool:  # noqa: ARG002
        workers = self._world.fleet.tensor_parallel
        self._world.books.send("fence", workers * FENCE_BYTES, workers, self._world.agenda.now)
        return False

    def lost(self, request: Request, consumer: Consumer) -> bool:
        return _holder(request) in self._lessees[consumer.index].lost

    def verdict(self, lease: Lease) -> Verdict:
        if lease.crashed:
            return Verdict.FAILED
        return Verdict.REFUSED if lease.cleared else Verdict.ACCEPTED

    def died(self, engine: Producer | Consumer) -> None:
        self._agent(engine).die()

    def started(self, engine: Producer | Consumer) -> None:
        if isinstance(engine, Producer):
            self._lessors[engine.index] = ProducerAgent(self._post, engine, self._config)
        else:
            self._lessees[engine.index] = ConsumerAgent(self._post, engine, self._config)

    def stalled(self, engine: Producer | Consumer, until: float, process: bool) -> None:
        if process:
            self._agent(engine).stop(until)

    def _agent(self, engine: Producer | Consumer) -> ProducerAgent | ConsumerAgent:
        return self._lessors[engine.index] if isinstance(engine, Producer) else self._lessees[engine.index]


def _holder(request: Request) -> str:
    """Another one for every engine it comes to."""
    return f"{request.number}.{request.turn}"
