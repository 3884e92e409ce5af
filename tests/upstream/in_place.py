"""A pytest plugin: vLLM's tests meet kvlease wherever they name vLLM's pull connector or one of its two halves.

The tests play an engine's parts one by one, with a fake NIXL. The plugin gives kvlease what an engine would have given
it and such a test does not.
"""

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
from vllm.v1.core.block_pool import BlockPool

import kvlease.vllm
import kvlease.vllm.connector
import kvlease.vllm.in_scheduler
from kvlease.agent.loop import LeaseAgent
from kvlease.engine.own_fences import SharedFences
from kvlease.engine.worker import LeaseWorker
from kvlease.fence import CAPACITY, AgentErrors, FenceTable, FenceVerifier, RegisteredWords, SharedMemory
from kvlease.protocol import WorkerFence, resolve
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from kvlease.vllm.connector import LeasedNixlConnector
from kvlease.vllm.in_scheduler import SchedulerLeases
from kvlease.vllm.in_worker import WorkerLeases
from kvlease.vllm.metadata import LeasedHandshakePayload
from kvlease.vllm.prompts import fingerprint_of
from kvlease.vllm.scheduler import LeasedScheduler
from kvlease.vllm.side_channel import SideChannelCards
from kvlease.vllm.worker import LeasedWorker

SLOTS = 10_000
"""The number of words in a fence that no worker of a test ever arms."""

CONFIG = resolve({})
_network = MemoryNetwork()
_schedulers: "weakref.WeakSet[Scheduler]" = weakref.WeakSet()


class Bare:
    """A half that has kvlease's attributes even where a test made it without `__init__`, with vLLM's alone."""

    parts: ClassVar[dict[str, Callable[[Any], Any]]]

    def __getattr__(self, name: str) -> Any:
        if name not in self.parts:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = part = self.parts[name](self)
        return part


class Scheduler(Bare, LeasedScheduler):
    """A `LeasedScheduler` in an engine that consists of the scheduler alone."""

    parts: ClassVar = {
        "kv_cache_config": lambda _: MagicMock(transfer_groups=[MagicMock()]),
        "_lease": lambda _: SchedulerLeases(
            LeaseAgent(CONFIG, "engine", _in_memory, SideChannelCards()), CONFIG, workers=1, groups=1, drains=False
        ),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _schedulers.add(self)
        # The handshake of its workers would do this.
        self.bind_gpu_block_pool(BlockPool(SLOTS, enable_caching=False, hash_block_size=16))
        table = FenceTable(RegisteredWords(MagicMock(), SLOTS))
        self._lease.open([WorkerFence(0, 0, 4096, SLOTS)], SharedFences([table]))

    def set_xfer_handshake_metadata(self, metadata: Any) -> None:
        """Takes payloads that no worker made, too."""
        super().set_xfer_handshake_metadata({rank: _leased(payload) for rank, payload in metadata.items()})

    def on_new_request(self, request: Any) -> None:
        params = request.kv_transfer_params or {}
        ids = params.get("remote_block_ids")
        if isinstance(ids, list) and all(isinstance(block, int) for block in ids):
            # vLLM's tests name blocks without groups, which no engine does and no worker could read.
            params["remote_block_ids"] = [ids for _ in self.kv_cache_config.transfer_groups]
        super().on_new_request(request)

    def request_finished(self, request: Any, block_ids: Any) -> Any:
        producer = self._lease.step.producer
        if (request.kv_transfer_params or {}).get("do_remote_decode") and not producer.has(request.request_id):
            # Some tests play only the end of a request.
            producer.take_on(request.request_id, fingerprint_of(request))
            producer.prepare(request.request_id)
        return super().request_finished(request, block_ids)


class Worker(Bare, LeasedWorker):
    """A `LeasedWorker` without a KV cache, since hardly any of the tests has one."""

    parts: ClassVar = {"_lease": lambda self: WorkerLeases(self, _a_fence(), SharedMemory(1))}


def _a_fence() -> LeaseWorker:
    """The leases of a worker with a registered KV cache. Their NIXL is a fake: the worker's own may be anything."""
    nixl, errors = MagicMock(), AgentErrors((), Exception)
    verifier = FenceVerifier(nixl, RegisteredWords(nixl, CAPACITY), errors=errors)
    return LeaseWorker(FenceTable(RegisteredWords(nixl, SLOTS)), verifier, MagicMock())


def _leased(payload: Any) -> LeasedHandshakePayload:
    if isinstance(payload, LeasedHandshakePayload):
        return payload
    return LeasedHandshakePayload(payload.compatibility_hash, payload.agent_metadata_bytes)


def _in_memory(incarnation: int, *_: Any) -> MemoryTransport:
    return MemoryTransport(_network, incarnation)


INSTEAD_OF = {
    "NixlConnector": LeasedNixlConnector,
    "NixlPullConnector": LeasedNixlConnector,
    "NixlConnectorScheduler": Scheduler,
    "NixlPullConnectorScheduler": Scheduler,
    "NixlConnectorWorker": Worker,
    "NixlPullConnectorWorker": Worker,
}


def put_in_place() -> None:
    """Puts kvlease's classes under these names into vLLM's modules, not its own, before tests import them."""
    for module in [module for name, module in sys.modules.items() if name.startswith("vllm.")]:
        for name in INSTEAD_OF.keys() & vars(module).keys():
            setattr(module, name, INSTEAD_OF[name])
    for name in ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector"):
        # A set name is not looked up, which would compare vLLM's surface: it is not vLLM's own now.
        setattr(kvlease.vllm, name, LeasedNixlConnector)
    vars(kvlease.vllm.connector).update(LeasedScheduler=Scheduler, LeasedWorker=Worker)
    vars(kvlease.vllm.in_scheduler)["NixlTransport"] = _in_memory


put_in_place()


@pytest.fixture(autouse=True)
def _schedulers_end_with_their_test() -> Iterator[None]:
    """Shuts the schedulers of each test down, as vLLM's tests seldom do; their threads would go on running."""
    yield
    for scheduler in list(_schedulers):
        scheduler.shutdown()
        _schedulers.discard(scheduler)
