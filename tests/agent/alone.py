"""A lease agent without peers, for tests of what is built on it."""

import time
from collections.abc import Callable

from kvlease.agent.core import AgentCore
from kvlease.protocol import LeaseConfig
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport


def lone_agent(config: LeaseConfig, clock: Callable[[], float] = time.monotonic) -> AgentCore:
    """An agent that takes its turns by hand, on a network on which nobody else is."""
    network = MemoryNetwork()
    return AgentCore(config, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}), clock=clock)
