"""A simulated fleet: the engines, the router and the policy of one run, put together."""

from kvlease.fleet.context import FleetContext
from kvlease.fleet.engines.decode import Consumer
from kvlease.fleet.engines.prefill import Producer
from kvlease.fleet.leasing import Policy
from kvlease.fleet.router import FleetRouter
from kvlease.fleet.settings import Fleet


class SimulatedFleet:
    """A fleet under a policy. Everything in it happens at `context.agenda.now`, and none of its parts knows it."""

    def __init__(self, fleet: Fleet, policy: Policy, seed: int) -> None:
        self.context = FleetContext.begin(fleet, seed)
        self.router = FleetRouter(self.context, policy.references_last)
        leasing = policy.open(self.context)
        self.producers = [Producer(self.context, index, leasing, self.router) for index in range(fleet.producers)]
        self.consumers = [Consumer(self.context, index, leasing, self.router) for index in range(fleet.consumers)]
        self.router.connect(self.producers, self.consumers)
        engines: list[Producer | Consumer] = [*self.producers, *self.consumers]
        for engine in engines:
            engine.start()
