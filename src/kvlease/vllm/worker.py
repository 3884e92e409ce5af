"""The connector's half in a worker: vLLM's own pull worker, with the lease's part at each hook."""

from typing import TYPE_CHECKING, Any

from kvlease.vllm.compat import (
    KVConnectorTransferResults,
    NixlConnectorMetadata,
    NixlHandshakePayload,
    NixlPullConnectorWorker,
    ReqMeta,
)
from kvlease.vllm.in_worker import WorkerLeases, open_leases
from kvlease.vllm.metadata import LeasedHandshakePayload, LeasedMetadata, LeasedWorkerReport
from kvlease.vllm.metrics import LeaseStats
from kvlease.vllm.notices import arrived, take_notices
from kvlease.vllm.settings import lease_config
from kvlease.vllm.watching import watch_worker

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig


class LeasedWorker(NixlPullConnectorWorker):
    """`NixlPullConnectorWorker` with fences."""

    _lease: WorkerLeases
    """Set when the KV cache is registered."""

    def __init__(self, vllm_config: "VllmConfig", engine_id: str, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, engine_id, kv_cache_config)
        self._lease_extension = lease_config(vllm_config)[0].extension_s
        self.xfer_stats = LeaseStats()

    # -- an engine starts and ends -------------------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        # This comes first, so that the agent's metadata, taken at the end of vLLM's own hook, covers the table.
        config, _ = lease_config(self.vllm_config)
        self._lease = open_leases(
            self,
            config.fence_slots or self.kv_cache_config.num_blocks,
            watch_worker(self.vllm_config, self.engine_id, self.tp_rank),
        )
        super().register_kv_caches(kv_caches)

    def handshake_metadata(self) -> LeasedHandshakePayload:
        """vLLM's handshake of this worker, with the place of its fence table."""
        stock: NixlHandshakePayload = self.xfer_handshake_metadata
        base, slots = self._lease.step.table.address
        return LeasedHandshakePayload(
            stock.compatibility_hash, stock.agent_metadata_bytes, base, slots, self._lease.memory.place
        )

    def shutdown(self) -> None:
        # vLLM also shuts down a worker that failed before it had a KV cache.
        lease: WorkerLeases | None = getattr(self, "_lease", None)
        if lease is not None:
            lease.close()
        super().shutdown()

    # -- a step --------------------------------------------------------------------------------------------------

    def start_load_kv(self, metadata: NixlConnectorMetadata) -> None:
        # isinstance is not used: it is slow to say no for vLLM's own metadata, whose class is abstract.
        if type(metadata) is LeasedMetadata:
            self._lease.begin(metadata)
        else:
            super().start_load_kv(metadata)
        for request_id in metadata.reqs_not_processed:
            # vLLM forgets what some of a request's readers said when that request expires: it never does with a lease.
            self.consumer_notification_counts_by_req.pop(request_id, None)
            self.expected_consumer_notifications_by_req.pop(request_id, None)

    def _read_blocks_for_req(self, req_id: str, meta: ReqMeta) -> None:
        self._lease.read(req_id, meta)

    def _pop_done_transfers(self, transfers: dict[str, list[Any]]) -> tuple[set[str], set[str]]:
        """Holds requests whose data is here back until their fence is read; for most that ends in the same step."""
        if not transfers and not self._lease.step.reads.checking:
            return set(), set()
        done, failed = super()._pop_done_transfers(transfers)
        if not done and not self._lease.step.reads.checking:
            return done, failed
        refused, held_back = self._lease.verify(done - failed - self._recv_failures)
        for request_id in held_back:
            # A request without handles counts as done again in the next step.
            transfers[request_id] = []
        return done - held_back, failed | refused

    def get_transfer_results(self) -> KVConnectorTransferResults:
        results = super().get_transfer_results()
        self._lease.end(results.finished_recving, results.finished_sending)
        return results

    def take_report(self) -> LeasedWorkerReport | None:
        """Returns what the scheduler is to hear of this step; None when there is nothing."""
        report = self._lease.step.take_report()
        return None if report is None else LeasedWorkerReport(report)

    # -- what others say -----------------------------------------------------------------------------------------

    def _get_new_notifs(self) -> set[str]:
        notices, refused = take_notices(self.nixl_wrapper)
        if refused:
            self.xfer_stats.count("refused", "bad_notice", refused)
        if not notices:
            return set()
        with arrived(self, notices):
            sent: set[str] = super()._get_new_notifs()
        return sent

    def _handle_heartbeat(self, payload: str) -> None:
        if stock := self._lease.hear_heartbeats(payload):
            super()._handle_heartbeat(stock)

    def _ensure_handshake(self, engine_id: str, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        shaking = super()._ensure_handshake(engine_id, host, port, *args, **kwargs)
        self._lease.shake_hands(engine_id, host, port, shaking)
        return shaking

    def _cleanup_remote_engine(self, engine_id: str, *, log_eviction: bool = True) -> None:
        super()._cleanup_remote_engine(engine_id, log_eviction=log_eviction)
        self._lease.forget_engine(engine_id)
