"""The policy of kvlease: the product's protocol code, a lessor on every producer and a lessee on every consumer.

The rest is modelled: the wire, the pauses between the agents' turns, the engines' steps, and the fence, which here is a
flag that is set as one of the lease's blocks is given to somebody else (`FleetLease.reused`). There are as many fence
slots as leases.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvlease.fleet.context import FleetContext
from kvlease.fleet.leasing import Leasing, LeasingEngine, ReadingEngine, ReadVerdict
from kvlease.fleet.policies.agents import ConsumerAgent, ProducerAgent
from kvlease.fleet.policies.network import Post
from kvlease.fleet.records import FleetLease, FleetRequest
from kvlease.protocol import Fingerprint, LeaseConfig, LeaseRef, resolve
from kvlease.protocol.messages import milliseconds
from kvlease.protocol.said import Cleared, Grant

FENCE_BYTES = 8
_ANY_PROMPT = Fingerprint(1, 0)
"""The prompt of all references: no router here mixes requests up."""


@dataclass(frozen=True, slots=True)
class Kvlease:
    """The policy of kvlease. `extra_config`: settings in an operator's form, such as `kv_lease_duration`. Raises
    `ConfigError`."""

    extra_config: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config()

    def config(self) -> LeaseConfig:
        """The settings with all that follow from them."""
        return resolve(self.extra_config)

    @property
    def name(self) -> str:
        others = [f"{key.removeprefix('kv_lease_')} {value}" for key, value in self.extra_config.items()]
        beside = [other for other in others if not other.startswith("duration ")]
        return ", ".join([f"kvlease {self.config().duration_s:g} s", *beside])

    @property
    def kind(self) -> str:
        return "kvlease"

    @property
    def references_last(self) -> bool:
        return True

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

    def open(self, context: FleetContext) -> Leasing:
        return FencedLeasing(context, self.config())


class FencedLeasing:
    """`Leasing` by lessors and lessees."""

    def __init__(self, context: FleetContext, config: LeaseConfig) -> None:
        self._fleet = context.fleet
        self._agenda = context.agenda
        self._books = context.books
        self._config = config
        self._term_ms = milliseconds(config.duration_s)
        self._post = Post(context)
        self._lessors: dict[int, ProducerAgent] = {}
        self._lessees: dict[int, ConsumerAgent] = {}
        """The consumers' agents by number of the engine, as `_lessors` has the producers'."""

    # -- engines come and go -----------------------------------------------------------------------------------------

    def started(self, engine: LeasingEngine) -> None:
        if engine.side == "producer":
            self._lessors[engine.index] = ProducerAgent(self._post, engine, self._config)
        else:
            self._lessees[engine.index] = ConsumerAgent(self._post, engine, self._config)

    def stalled(self, engine: LeasingEngine, until: float, process: bool) -> None:
        if process:
            self._agent(engine).stop(until)

    def died(self, engine: LeasingEngine) -> None:
        self._agent(engine).agent.die()

    def _agent(self, engine: LeasingEngine) -> ProducerAgent | ConsumerAgent:
        return self._lessors[engine.index] if engine.side == "producer" else self._lessees[engine.index]

    # -- leases ------------------------------------------------------------------------------------------------------

    def granted(self, lease: FleetLease) -> None:
        self._lessors[lease.producer].agent.say(Grant(lease.token))

    def reused(self, lease: FleetLease) -> None:
        self._lessors[lease.producer].agent.say(Cleared(lease.token))

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        # The reference has the incarnation that granted the lease, which may be dead by now.
        ref = LeaseRef(self._post.incarnation(lease.life), lease.token, 0, self._term_ms, _ANY_PROMPT)
        self._lessees[consumer.index].track(_holder(request), ref, ("producer", lease.producer))

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:  # noqa: ARG002
        self._lessees[consumer.index].untrack(_holder(request))

    def data_in(self, lease: FleetLease) -> bool:  # noqa: ARG002
        workers = self._fleet.tensor_parallel
        self._books.send("fence", workers * FENCE_BYTES, workers, self._agenda.now)
        return False

    def lost(self, request: FleetRequest, consumer: ReadingEngine) -> bool:
        return _holder(request) in self._lessees[consumer.index].lost

    def verdict(self, lease: FleetLease) -> ReadVerdict:
        if lease.crashed:
            return ReadVerdict.FAILED
        return ReadVerdict.REFUSED if lease.reused else ReadVerdict.ACCEPTED


def _holder(request: FleetRequest) -> str:
    """Returns the name of a request at its present engine: another one for every engine it comes to."""
    return f"{request.number}.{request.turn}"
