"""A pytest plugin: vLLM's tests meet kvlease wherever they name vLLM's pull connector or one of its two halves.

They play an engine's parts one by one, with a NIXL that is a fake. What an engine would have given kvlease, and such a
test does not, is given here.
"""

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest

import kvlease.vllm
import kvlease.vllm.connector
import kvlease.vllm.scheduler
from kvlease.agent.loop import LeaseAgent
from kvlease.agent.memory import MemoryNetwork, MemoryTransport
from kvlease.fence import FenceVerifier
from kvlease.protocol import resolve
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.fences import RemoteFences
from kvlease.roles.producer import ProducerSide
from kvlease.roles.reads import LeasedReads
from kvlease.roles.words import WorkerWords
from kvlease.vllm.connector import LeasedNixlConnector
from kvlease.vllm.prompts import fingerprint_of
from kvlease.vllm.scheduler import LeasedScheduler
from kvlease.vllm.side_channel import SideChannelCards
from kvlease.vllm.worker import LeasedWorker

SLOTS = 10_000
"""Words of a fence that no worker of a test will ever arm."""

_network = MemoryNetwork()
_schedulers: "weakref.WeakSet[Scheduler]" = weakref.WeakSet()


class Bare:
    """One that was made without `__init__`, and given what its test needs of vLLM's attributes, has kvlease's too."""

    parts: ClassVar[dict[str, Callable[[Any], Any]]]

    def __getattr__(self, name: str) -> Any:
        if name not in self.parts:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = part = self.parts[name](self)
        return part


class Scheduler(Bare, LeasedScheduler):
    """`LeasedScheduler` in an engine of which there is no more than the scheduler."""

    parts: ClassVar = {
        "kv_cache_config": lambda _: MagicMock(transfer_groups=[MagicMock()]),
        "_agent": lambda _: LeaseAgent(resolve({}, {})[0], "engine", _in_memory, SideChannelCards()),
        "_producer": lambda self: ProducerSide(resolve({}, {})[0], self._agent, 1, fingerprint_of),
        "_consumer": lambda self: ConsumerSide(self._agent, fingerprint_of),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _schedulers.add(self)
        # As the handshake of its workers would.
        self._producer.open(SLOTS)

    def on_new_request(self, request: Any) -> None:
        params = request.kv_transfer_params or {}
        ids = params.get("remote_block_ids")
        if isinstance(ids, list) and all(isinstance(block, int) for block in ids):
            # Their requests name blocks without groups, as no engine does and no worker could read.
            params["remote_block_ids"] = [ids for _ in self.kv_cache_config.transfer_groups]
        super().on_new_request(request)

    def request_finished(self, request: Any, block_ids: Any) -> Any:
        if (request.kv_transfer_params or {}).get("do_remote_decode") and not self._producer.has(request.request_id):
            # Some play no more of a request than its end.
            self._producer.take_on(request)
            self._producer.prepare(request.request_id)
        return super().request_finished(request, block_ids)


class Worker(Bare, LeasedWorker):
    """`LeasedWorker` without a KV cache, which hardly any of the tests has."""

    parts: ClassVar = {
        "_table": lambda _: None,
        "_verifier": lambda _: None,
        "_fence_slots": lambda _: SLOTS,
        "_words": lambda _: WorkerWords(None),
        "_reads": lambda _: LeasedReads(FenceVerifier(MagicMock())),
        "_fences": lambda _: RemoteFences(MagicMock()),
        "_released": lambda _: set(),
        "_heartbeats": lambda _: set(),
        "_addresses": lambda _: {},
        "_outlived": lambda _: set(),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open_fence()

    def _open_fence(self) -> None:
        """Once, and not in a bare one, whose NIXL may be anything."""
        if "_verifier" in vars(self) and self._table is None:
            super()._open_fence()


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
    """In every module of vLLM that has one of the names, before tests import them. kvlease's own keep vLLM's."""
    for module in [module for name, module in sys.modules.items() if name.startswith("vllm.")]:
        for name in INSTEAD_OF.keys() & vars(module).keys():
            setattr(module, name, INSTEAD_OF[name])
    for name in ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector"):
        # Not looked up any more, and so vLLM's surface is not checked any more: it is not vLLM's own now.
        setattr(kvlease.vllm, name, LeasedNixlConnector)
    vars(kvlease.vllm.connector).update(LeasedScheduler=Scheduler, LeasedWorker=Worker)
    vars(kvlease.vllm.scheduler)["NixlTransport"] = _in_memory


put_in_place()


@pytest.fixture(autouse=True)
def _schedulers_end_with_their_test() -> Iterator[None]:
    """vLLM's tests shut hardly any down, and one that failed none. Of its own, nothing would be left running."""
    yield
    for scheduler in list(_schedulers):
        scheduler.shutdown()
        _schedulers.discard(scheduler)
