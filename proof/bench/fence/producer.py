"""The producer whose blocks are read: its workers' agents, each with a part of the KV cache and a fence table."""

import os
from multiprocessing.connection import Connection
from typing import Any

from proof.bench.fence.setting import DATA, SLOT, TOKEN, Setting, WorkerAddress, allocate

ROUNDS = 1000
"""The rounds of making progress between two looks at what the parent says."""
HEAR_S = 0.01
"""The time between two looks of a worker at its notices: an engine's step."""


def produce(parent: Connection, setting: Setting, size: int, data: int = DATA) -> None:
    """Serve `size` bytes of KV cache, of this value, until told to end; this runs in a process of its own."""
    from kvlease.fence import FenceTable, RegisteredWords

    part = size // setting.workers
    region = allocate(setting.memory, size, data)
    agents, tables, addresses = [], [], []
    for number in range(setting.workers):
        agent = _agent(f"producer-{os.getpid()}-{number}", spins=setting.workers == 1)
        table = FenceTable(RegisteredWords(agent, 1024))
        table.arm(SLOT, TOKEN)
        base = region.base + number * part
        agent.register_memory(agent.get_reg_descs([(base, part, 0, "")], setting.memory))
        addresses.append(WorkerAddress(agent.get_agent_metadata(), base, table.address))
        agents.append(agent)
        tables.append(table)
    parent.send(addresses)
    _serve(parent, agents)


def _serve(parent: Connection, agents: list[Any]) -> None:
    if len(agents) == 1:
        while not parent.poll(HEAR_S):
            agents[0].get_new_notifs()
        return
    # Several progress threads would take turns of milliseconds on the one core that they have here; in production each
    # has one to itself. One loop over all agents answers within microseconds, as they do there.
    while not parent.poll():
        for _ in range(ROUNDS):
            for agent in agents:
                agent.get_new_notifs()


def _agent(name: str, *, spins: bool) -> Any:
    """Makes a NIXL agent as vLLM makes a worker's, whose progress thread spins."""
    from nixl._api import nixl_agent, nixl_agent_config

    return nixl_agent(name, nixl_agent_config(enable_prog_thread=spins, capture_telemetry=True))
