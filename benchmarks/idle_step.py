"""An engine step in which the connector has nothing to do, for stock and for kvlease, with leases out.

The calls, and their order, are those of vLLM 0.32: `Scheduler.schedule`, `KVConnectorModelRunnerMixin` in the worker,
`Scheduler.update_from_output`.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.leased import CONFIG, PRODUCER, Agent
from benchmarks.stock import SilentNixl, bare_scheduler, bare_worker, cache_config, engine_config, furnish
from kvlease.fence import FenceTable, FenceVerifier
from kvlease.protocol import Fingerprint
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.producer import ProducerSide
from kvlease.roles.reads import LeasedReads
from kvlease.roles.words import WorkerWords

if TYPE_CHECKING:
    from kvlease.vllm.scheduler import LeasedScheduler
    from kvlease.vllm.worker import LeasedWorker

BLOCKS_OF_A_REQUEST = 8


class Engine:
    """The two connectors of an engine with one worker, each with its half, and what a step does with them."""

    def __init__(self, connector: Any, scheduler_half: Any, worker_half: Any) -> None:
        from vllm.v1.outputs import KVConnectorOutput

        self.scheduler_half, self.worker_half = scheduler_half, worker_half
        self._scheduler = _connector(connector, scheduler=scheduler_half)
        self._worker = _connector(connector, worker=worker_half)
        self._output: Callable[..., Any] = KVConnectorOutput

    def build(self) -> Any:
        """The scheduler's part at the beginning of a step: the metadata."""
        return self._scheduler.build_connector_meta(None)

    def work(self, metadata: Any) -> Any:
        """The worker's part."""
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
        """Requests whose prefill has been done for another engine: from now on their blocks are out."""
        from vllm.v1.request import RequestStatus

        for request_id in ids:
            request: Any = SimpleNamespace(
                request_id=request_id,
                kv_transfer_params={"do_remote_decode": True},
                abort_immediately=False,
                status=RequestStatus.FINISHED_LENGTH_CAPPED,
                num_computed_tokens=BLOCKS_OF_A_REQUEST * 16,
                sampling_params=None,
            )
            self.scheduler_half.on_new_request(request)
            self.scheduler_half.update_state_after_alloc(request, None, 0)
            delayed, _ = self.scheduler_half.request_finished(request, (list(range(1, BLOCKS_OF_A_REQUEST + 1)),))
            assert delayed
        self.step()


def any_prompt(_: Any) -> Fingerprint:
    """Of every request here; what the real one costs is a benchmark of its own (`prompt`)."""
    return Fingerprint(1, 0)


def _connector(kind: Any, scheduler: Any = None, worker: Any = None) -> Any:
    connector = kind.__new__(kind)
    connector.connector_scheduler, connector.connector_worker = scheduler, worker
    connector.kv_transfer_config = SimpleNamespace(kv_role="kv_producer")
    connector._connector_metadata = None
    return connector


def stock_engine(ids: Sequence[str]) -> Engine:
    """vLLM's, with these requests out."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector

    engine = Engine(NixlPullConnector, bare_scheduler(), bare_worker(SilentNixl()))
    engine.prefill(ids)
    assert len(engine.worker_half._reqs_to_send) == len(ids)
    return engine


def leased_engine(ids: Sequence[str]) -> tuple[Engine, Agent]:
    """kvlease's, with these requests leased, and its agent, which has no thread: who measures takes its turns."""
    from kvlease.vllm.connector import LeasedNixlConnector

    agent = Agent("prefill", PRODUCER, {})
    engine = Engine(LeasedNixlConnector, _leased_scheduler(agent, len(ids)), _leased_worker(len(ids)))
    engine.prefill(ids)
    agent.turn()
    engine.step()
    assert len(agent.core._lessor.leases) == len(ids)
    assert all(request_id in engine.worker_half._words for request_id in ids)
    return engine, agent


def _leased_scheduler(agent: Agent, leases: int) -> "LeasedScheduler":
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorScheduler

    from kvlease.vllm.metrics import SchedulerStatsFeed
    from kvlease.vllm.scheduler import LeasedScheduler

    half: Any = LeasedScheduler.__new__(LeasedScheduler)
    NixlPullConnectorScheduler.__init__(half, engine_config(), "engine", cache_config())
    half._config, half._agent = CONFIG, agent.core
    half._producer = ProducerSide(CONFIG, agent.core, 1, any_prompt)
    half._consumer = ConsumerSide(agent.core, any_prompt)
    half._producer.open(slots=leases + 1)
    half.stats = SchedulerStatsFeed(agent.core, half._producer, half._consumer)  # type: ignore[arg-type]
    leased: LeasedScheduler = half
    return leased


def _leased_worker(leases: int) -> "LeasedWorker":
    from kvlease.roles.fences import RemoteFences
    from kvlease.vllm.metrics import LeaseStats
    from kvlease.vllm.worker import LeasedWorker

    half: Any = LeasedWorker.__new__(LeasedWorker)
    nixl = SilentNixl()
    furnish(half, nixl)
    half.xfer_stats = LeaseStats()
    half._table, half._verifier = FenceTable(nixl, leases + 1), FenceVerifier(nixl)  # type: ignore[arg-type]
    half._words, half._reads = WorkerWords(half._table), LeasedReads(half._verifier)
    half._released, half._heartbeats = set(), set()
    half._fences = RemoteFences(half._fetch_card)
    half._addresses, half._outlived = {}, set()
    leased: LeasedWorker = half
    return leased
