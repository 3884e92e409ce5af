"""A lease agent without peers, for tests of what is built on it."""

import time
from collections.abc import Callable

from kvlease.agent.core import AgentCore
from kvlease.protocol import LeaseConfig
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport


def lone_agent(
    config: LeaseConfig, clock: Callable[[], float] = time.monotonic, network: MemoryNetwork | None = None
) -> AgentCore:
    """An agent that takes its turns by hand, on a network on which nobody else is yet."""
    on = network or MemoryNetwork()
    return AgentCore(config, "engine", lambda own: MemoryTransport(on, own), MemoryCards({}), clock=clock)
