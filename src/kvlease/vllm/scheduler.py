"""The connector's half in the scheduler: vLLM's own pull scheduler, with the lease's part at each hook.

Nothing here waits for the lease agent, but for `on_rpc`, and no cost grows with the number of leases.
"""

import secrets
import threading
from typing import TYPE_CHECKING, Any

from kvlease.metrics.observed import ObservedTimes
from kvlease.vllm.compat import KVConnectorHandshakeMetadata, NixlConnectorMetadata, NixlPullConnectorScheduler
from kvlease.vllm.in_scheduler import SchedulerLeases, open_agent
from kvlease.vllm.listener import HandshakeListener
from kvlease.vllm.metadata import LeasedMetadata, LeasedWorkerReport
from kvlease.vllm.metrics import LeaseStats
from kvlease.vllm.params import without_blocks
from kvlease.vllm.pool import block_bytes
from kvlease.vllm.settings import lease_config, listen_config
from kvlease.vllm.watching import watch_scheduler

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


RPC_S = 5.0
"""The longest time that an engine waits for its agent's answer to an operator; a turn of it takes milliseconds."""


class LeasedScheduler(NixlPullConnectorScheduler):
    """`NixlPullConnectorScheduler` with leases that hold."""

    def __init__(self, vllm_config: "VllmConfig", engine_id: str, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, engine_id, kv_cache_config)
        config, _ = lease_config(vllm_config)
        # The stock mechanism, for stock peers, has the same settings.
        self._kv_lease_duration = config.duration_s
        self._heartbeat_interval = config.renew_interval_s
        # With MLA, vLLM's worker reads from engines with other KV cache groups as well (vllm 57077, 57389).
        groups = None if vllm_config.model_config.use_mla else len(kv_cache_config.transfer_groups)
        times, incarnation = ObservedTimes(), secrets.randbits(64)
        watch = watch_scheduler(vllm_config, engine_id, incarnation)
        agent = open_agent(vllm_config, config, engine_id, times, incarnation, watch)
        workers, drains = vllm_config.parallel_config.world_size, vllm_config.shutdown_timeout > 0
        size = block_bytes(kv_cache_config)
        self._lease = SchedulerLeases(
            agent, config, workers, groups, drains, times=times, block_bytes=size, watch=watch
        )
        rank, model = vllm_config.parallel_config.data_parallel_index, vllm_config.model_config.served_model_name
        labels = {"model_name": str(model), "engine": str(rank)}
        self._lease.open_doors(rank, engine_id, listen_config(vllm_config), labels)
        agent.start()

    # -- an engine starts and ends -------------------------------------------------------------------------------

    def bind_gpu_block_pool(self, pool: "BlockPool") -> None:
        """vLLM hands its block pool over, after both halves of its scheduler are made."""
        self._lease.bind(pool)

    def set_xfer_handshake_metadata(self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]) -> None:
        super().set_xfer_handshake_metadata(self._lease.serve(metadata))

    def _nixl_handshake_listener(
        self,
        encoded_data: dict[tuple[int, int], bytes],
        ready_event: threading.Event,
        stop_event: threading.Event,
        host: str,
        port: int,
    ) -> None:
        """Serves handshakes in its own thread; the stock listener ends at a question that it does not understand."""
        HandshakeListener(encoded_data, self._lease.counts).serve(host, port, ready_event, stop_event)

    def shutdown(self) -> None:
        self._lease.close()
        super().shutdown()

    def on_rpc(self, payload: bytes) -> bytes | None:
        """Answers an operator's question (`kvlease.admin.questions`), for which it waits a turn of the agent's."""
        assert self._lease.admin is not None
        return self._lease.admin.answer(payload).result(RPC_S)

    # -- a request comes, is scheduled, and ends -----------------------------------------------------------------

    def on_new_request(self, request: "Request") -> None:
        # This comes before vLLM's own hook, which may cut the prompt short.
        if self._lease.requests.arrive(request):
            super().on_new_request(request)

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int, bool]:
        # vLLM asks this before it takes blocks for the request: what nobody holds any more is to be free by then.
        self._lease.step.producer.hear_news()
        matched: tuple[int, bool] = super().get_num_new_matched_tokens(request, num_computed_tokens)
        return matched

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        super().update_state_after_alloc(request, blocks, num_external_tokens)
        if self._lease.requests.schedule(request, num_external_tokens):
            self._reqs_need_recv.pop(request.request_id, None)

    def request_finished(
        self, request: "Request", block_ids: "tuple[list[int], ...]"
    ) -> tuple[bool, dict[str, Any] | None]:
        self._lease.requests.end_unread(request)
        delay_free, offer = super().request_finished(request, block_ids)
        if not (request.kv_transfer_params or {}).get("do_remote_decode"):
            return delay_free, offer
        if not delay_free or offer is None:
            self._lease.requests.abort(request)
            # An offer without blocks has no lease, and would be read as a stock one.
            return delay_free, offer and without_blocks(offer)
        # The request ends here, and its lease keeps the blocks: vLLM is to expect no word of them.
        del self._reqs_need_send[request.request_id]
        ref = self._lease.requests.grant(request, offer["remote_block_ids"])
        if ref is not None:
            return False, offer | {"kv_lease": ref.to_params()}
        # Without a lease nothing is offered, since it would have no fence.
        self._reqs_not_processed.add(request.request_id)
        return False, without_blocks(offer)

    # -- a step begins and ends ----------------------------------------------------------------------------------

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> NixlConnectorMetadata:
        orders = self._lease.step.begin_step(tuple(self._reqs_need_recv) if self._reqs_need_recv else ())
        if retired := self._lease.step.producer.take_retired():
            # Workers listen for a stock consumer's word of these requests no more.
            self._reqs_not_processed.update(retired)
        stock: NixlConnectorMetadata = super().build_connector_meta(scheduler_output)
        return stock if orders is None else LeasedMetadata.around(stock, orders)

    def has_pending_push_work(self) -> bool:
        return self._lease.wants_step or bool(super().has_pending_push_work())

    def has_pending_block_frees(self) -> bool:
        """Gives back what is held and over. Tells whether it was anything: then nothing need be preempted."""
        return self._lease.frees_blocks()

    def reset_cache(self) -> None:
        """vLLM has reset its caches: what was computed before must not be read any more."""
        self._lease.reset()

    def step_ended(self) -> LeaseStats | None:
        """Ends a step; called once in each. Returns new figures about leases, if there are any to tell."""
        self._lease.step.end_step()
        return self._lease.stats.take()

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        super().update_connector_output(connector_output)
        report = connector_output.kv_connector_worker_meta
        assert report is None or isinstance(report, LeasedWorkerReport)
        if connector_output.finished_recving or report:
            received, failed = connector_output.finished_recving or (), connector_output.failed_recving or ()
            self._lease.step.hear(received, report and report.report, failed)
        if connector_output.kv_connector_stats is not None:
            self._lease.note_workers(connector_output.kv_connector_stats)
