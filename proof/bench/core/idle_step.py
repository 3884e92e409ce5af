"""An engine step in which the connector has nothing to do, for stock and for kvlease, with leases out.

The calls, and their order, are those of vLLM 0.32: `Scheduler.schedule`, `KVConnectorModelRunnerMixin` in the worker,
`Scheduler.update_from_output`.
"""

import pickle
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from kvlease.engine.own_fences import SharedFences
from kvlease.fence import FenceTable, MappedWords
from kvlease.protocol import WorkerFence
from proof.bench.core.leased import CONFIG, PRODUCER, HandledAgent
from proof.bench.core.stock import (
    BLOCK_TOKENS,
    SilentNixl,
    bare_connector,
    bare_scheduler,
    bare_worker,
    cache_config,
    engine_config,
    furnish,
    held,
)

BLOCKS_OF_A_REQUEST = 8
_PASSES_S = 31.0
"""A time in which a term is over."""
_TURN_S = 0.05
"""The time between two turns of an agent meanwhile; it takes a longer one for a machine that stood still."""
SHORT_PROMPT: dict[str, Any] = {
    "prompt_token_ids": [1],
    "num_prompt_tokens": 1,
    "prompt_embeds": None,
    "prompt_is_token_ids": None,
    "lora_request": None,
    "cache_salt": None,
    "mm_features": [],
}
"""The prompt of every request here; the fingerprint of a long one has a benchmark of its own (`prompt`)."""


class SteppedEngine:
    """The two connectors of an engine with one worker, each with its half, and what a step does with them."""

    def __init__(self, connector: Any, scheduler_half: Any, worker_half: Any) -> None:
        from vllm.v1.outputs import KVConnectorOutput

        self.scheduler_half, self.worker_half = scheduler_half, worker_half
        self._scheduler = bare_connector(connector, scheduler=scheduler_half)
        self._worker = bare_connector(connector, worker=worker_half)
        self._output: Callable[..., Any] = KVConnectorOutput

    def build(self) -> Any:
        """The scheduler's part at the beginning of a step; returns the metadata."""
        return self._scheduler.build_connector_meta(None)

    def work(self, metadata: Any) -> Any:
        """The worker's part of a step; returns its output."""
        worker, output = self._worker, self._output()
        worker.bind_connector_metadata(metadata)
        worker.start_load_kv(None)
        worker.wait_for_save()
        results = worker.get_transfer_results(set())
        output.finished_sending = results.finished_sending
        output.finished_recving = results.finished_recving
        output.failed_recving = results.failed_recving
        output.invalid_block_ids = worker.get_block_ids_with_load_errors()
        output.kv_connector_stats = worker.get_kv_connector_stats()
        output.kv_cache_events = worker.get_kv_connector_kv_cache_events()
        output.kv_connector_worker_meta = worker.build_connector_worker_meta()
        worker.clear_connector_metadata()
        return output

    def update(self, output: Any) -> None:
        """The scheduler's part at the end of a step."""
        self._scheduler.update_connector_output(output)
        self._scheduler.get_kv_connector_stats()

    def step(self) -> None:
        self.update(self.work(self.build()))

    def prefill(self, ids: Sequence[str]) -> None:
        """Finishes the prefills of these requests for another engine: from now on their blocks are out."""
        from vllm.v1.request import RequestStatus

        for request_id in ids:
            request: Any = SimpleNamespace(
                request_id=request_id,
                kv_transfer_params={"do_remote_decode": True},
                abort_immediately=False,
                status=RequestStatus.FINISHED_LENGTH_CAPPED,
                num_computed_tokens=1,
                sampling_params=None,
                **SHORT_PROMPT,
            )
            self.scheduler_half.on_new_request(request)
            self.scheduler_half.update_state_after_alloc(request, None, 0)
            self._finish(request)
        self.step()

    def _finish(self, request: Any) -> None:
        """Ends a request; vLLM keeps its blocks until a worker says that they are read."""
        delayed, _ = self.scheduler_half.request_finished(request, (list(range(1, BLOCKS_OF_A_REQUEST + 1)),))
        assert delayed


def travel(metadata: object) -> object:
    """Pickles and unpickles a step's metadata as vLLM's message queue does, without the queue."""
    return pickle.loads(pickle.dumps(metadata, protocol=pickle.HIGHEST_PROTOCOL))


def stock_engine(ids: Sequence[str]) -> SteppedEngine:
    """An engine of vLLM's, with these requests out."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector

    engine = SteppedEngine(NixlPullConnector, bare_scheduler(), bare_worker(SilentNixl()))
    engine.prefill(ids)
    assert len(held(engine.worker_half)) == len(ids)
    return engine


class LeasedEngine(SteppedEngine):
    """An engine of kvlease's, with what it keeps in its scheduler and in its worker, and vLLM's block pool.

    Attributes: `agent`, which has no thread: the benchmark takes its turns. `leases`: those in the scheduler. `words`:
    the worker's, as the scheduler has mapped them.
    """

    def __init__(self, slots: int) -> None:
        """`slots` is the number of leases that can be out."""
        from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorScheduler
        from vllm.v1.core.block_pool import BlockPool

        from kvlease.vllm.connector import LeasedNixlConnector
        from kvlease.vllm.in_scheduler import SchedulerLeases
        from kvlease.vllm.in_worker import open_leases
        from kvlease.vllm.metrics import LeaseStats
        from kvlease.vllm.scheduler import LeasedScheduler
        from kvlease.vllm.worker import LeasedWorker

        class Scheduler(LeasedScheduler):
            def __init__(self, lease: SchedulerLeases) -> None:
                NixlPullConnectorScheduler.__init__(self, engine_config(), "engine", cache_config())
                self._lease = lease

        class Worker(LeasedWorker):
            def __init__(self) -> None:
                furnish(self, SilentNixl())
                self.xfer_stats = LeaseStats()
                self.leases = self._lease = open_leases(self, slots)

        self.agent = HandledAgent("prefill", PRODUCER, {})
        self.leases = SchedulerLeases(self.agent.core, CONFIG, workers=1, groups=1, drains=False)
        # One block is vLLM's null block.
        self.pool = BlockPool(slots * BLOCKS_OF_A_REQUEST + 1, enable_caching=True, hash_block_size=BLOCK_TOKENS)
        self.leases.bind(self.pool)
        worker = Worker()
        self.words = FenceTable(MappedWords(worker.leases.memory.place, slots))
        self.leases.open([WorkerFence(0, 0, 4096, slots)], SharedFences([self.words]))
        super().__init__(LeasedNixlConnector, Scheduler(self.leases), worker)

    def _finish(self, request: Any) -> None:
        """Ends a request, whose lease keeps its blocks."""
        blocks = self.pool.get_new_blocks(BLOCKS_OF_A_REQUEST)
        delayed, offer = self.scheduler_half.request_finished(request, ([block.block_id for block in blocks],))
        assert not delayed
        assert "kv_lease" in offer
        self.pool.free_blocks(reversed(blocks))

    def pass_term(self) -> None:
        """Lets a term pass in which no consumer says anything: all leases lapse."""
        for _ in range(round(_PASSES_S / _TURN_S)):
            self.agent.turn(_TURN_S)
        self.step()
        assert not self.leases.step.producer.blocks.held_leases


def leased_engine(ids: Sequence[str]) -> LeasedEngine:
    """An engine of kvlease's, with these requests leased."""
    engine = LeasedEngine(slots=len(ids) + 1)
    engine.prefill(ids)
    engine.agent.turn()
    engine.step()
    assert engine.agent.core.report().leases == len(ids)
    assert engine.leases.step.producer.blocks.held_leases == len(ids)
    return engine


def lapsed_engine(ids: Sequence[str]) -> LeasedEngine:
    """An engine of kvlease's, with leases of these requests that have lapsed, and can still be read."""
    engine = leased_engine(ids)
    engine.pass_term()
    assert engine.leases.step.producer.blocks.lapsed_blocks == len(ids) * BLOCKS_OF_A_REQUEST
    return engine
