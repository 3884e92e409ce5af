"""A pytest plugin: vLLM's tests meet kvlease wherever they name vLLM's pull connector or one of its two halves.

They play an engine's parts one by one, with a NIXL that is a fake. What an engine would have given kvlease, and such a
test does not, is given here.
"""

import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import kvlease.vllm
import kvlease.vllm.connector
import kvlease.vllm.scheduler
from kvlease.agent.loop import LeaseAgent
from kvlease.agent.memory import MemoryNetwork, MemoryTransport
from kvlease.vllm.connector import LeasedNixlConnector
from kvlease.vllm.scheduler import LeasedScheduler
from kvlease.vllm.worker import LeasedWorker

SLOTS = 10_000
"""Words of a fence that no worker of a test will ever arm."""

_network = MemoryNetwork()
_agents: "weakref.WeakSet[LeaseAgent]" = weakref.WeakSet()


class Scheduler(LeasedScheduler):
    """`LeasedScheduler` in an engine of which there is no more than the scheduler."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _agents.add(self._agent)
        # As the handshake of its workers would.
        self._producer.open(SLOTS)

    def on_new_request(self, request: Any) -> None:
        params = request.kv_transfer_params or {}
        ids = params.get("remote_block_ids")
        if isinstance(ids, list) and all(isinstance(block, int) for block in ids):
            # Their requests name blocks without groups, as no engine does and no worker could read.
            params["remote_block_ids"] = [ids for _ in self.kv_cache_config.transfer_groups]
        super().on_new_request(request)


INSTEAD_OF = {
    "NixlConnector": LeasedNixlConnector,
    "NixlPullConnector": LeasedNixlConnector,
    "NixlConnectorScheduler": Scheduler,
    "NixlPullConnectorScheduler": Scheduler,
    "NixlConnectorWorker": LeasedWorker,
    "NixlPullConnectorWorker": LeasedWorker,
}


def put_in_place() -> None:
    """In every module of vLLM that has one of the names, before tests import them. kvlease's own keep vLLM's."""
    for module in [module for name, module in sys.modules.items() if name.startswith("vllm.")]:
        for name in INSTEAD_OF.keys() & vars(module).keys():
            setattr(module, name, INSTEAD_OF[name])
    for name in ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector"):
        # Not looked up any more, and so vLLM's surface is not checked any more: it is not vLLM's own now.
        setattr(kvlease.vllm, name, LeasedNixlConnector)
    vars(kvlease.vllm.connector)["LeasedScheduler"] = Scheduler
    vars(kvlease.vllm.scheduler)["NixlTransport"] = lambda incarnation, _: MemoryTransport(_network, incarnation)


put_in_place()


@pytest.fixture(autouse=True)
def _agents_end_with_their_test() -> Iterator[None]:
    """vLLM's tests shut hardly any scheduler down; of its own, nothing is left running then."""
    yield
    for agent in list(_agents):
        agent.close()
        _agents.discard(agent)
