"""All that takes part in one run."""

from kvlease.fleet.agenda import Agenda
from kvlease.fleet.books import Books
from kvlease.fleet.decode import Consumer
from kvlease.fleet.leasing import Leasing, Policy
from kvlease.fleet.prefill import Producer
from kvlease.fleet.router import Router
from kvlease.fleet.settings import Fleet
from kvlease.sim.chance import Chance


class World:
    """A fleet under a policy. Everything in it happens at `agenda.now`."""

    def __init__(self, fleet: Fleet, policy: Policy, seed: int) -> None:
        self.fleet = fleet
        self.chance = Chance(seed)
        self.agenda = Agenda()
        self.books = Books(fleet.slo_ttft_s)
        self.producers = [Producer(self, index) for index in range(fleet.producers)]
        self.consumers = [Consumer(self, index) for index in range(fleet.consumers)]
        self.router = Router(self)
        self.leasing: Leasing = policy.open(self)
