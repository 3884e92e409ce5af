"""`LeasedNixlConnector`: vLLM's pull connector with leases that hold and reads that are fenced."""

import logging
from typing import TYPE_CHECKING, Any

from kvlease.vllm.compat import (
    KVConnectorHandshakeMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
    NixlPullConnector,
    check_version,
    log_as_vllm_does,
)
from kvlease.vllm.metrics import LeasePromMetrics, LeaseStats
from kvlease.vllm.plugin import REPLACES, refuse_unset_layout, register, replaces_stock
from kvlease.vllm.pool import has_one_pool
from kvlease.vllm.scheduler import LeasedScheduler
from kvlease.vllm.settings import lease_config, refuse_unguaranteed
from kvlease.vllm.worker import LeasedWorker

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = logging.getLogger(__name__)


# MultiConnector rebuilds its children's statistics by their names, also in processes that loaded no plugin.
register()


class LeasedNixlConnector(NixlPullConnector):
    """Drop-in for `NixlConnector`, on prefill and decode engines alike; works with stock peers on either side (R9).

    Raises `ConfigError` for a bad setting and `UnsupportedEngine` for a vLLM, or a way to run it, without guarantee.
    """

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        log_as_vllm_does()
        check_version()
        refuse_unguaranteed(vllm_config)
        refuse_unset_layout(vllm_config)
        config, warnings = lease_config(vllm_config)
        # NixlPullConnector.__init__ is skipped, since it would make the stock halves.
        super(NixlPullConnector, self).__init__(vllm_config, role, kv_cache_config)
        self.connector_scheduler: LeasedScheduler | None = None
        self.connector_worker: LeasedWorker | None = None
        if role is KVConnectorRole.SCHEDULER:
            for warning in warnings:
                logger.warning("kvlease: %s", warning)
            logger.info("kvlease: %s", config)
            if replaces_stock():
                logger.info("kvlease: %s=1: vLLM's NixlConnector is kvlease's in this engine", REPLACES)
            self.connector_scheduler = LeasedScheduler(vllm_config, self.engine_id, kv_cache_config)
        else:
            self.connector_worker = LeasedWorker(vllm_config, self.engine_id, kv_cache_config)

    @classmethod
    def supports_sleep_mode(cls, kv_transfer_config: Any) -> bool:
        """Returns False: when an engine sleeps, fences outlive the blocks that they stand for. vLLM asks since 0.33."""
        del kv_transfer_config
        return False

    def bind_kv_cache_manager(self, kv_cache_manager: "KVCacheManager") -> None:
        if has_one_pool(kv_cache_manager):
            super().bind_kv_cache_manager(kv_cache_manager)
        else:
            logger.warning(
                "kvlease: this engine's KV cache groups have pools of their own (HiSparse): it offers no prefills"
            )

    def bind_gpu_block_pool(self, gpu_block_pool: "BlockPool") -> None:
        if self.connector_scheduler is not None:
            self.connector_scheduler.bind_gpu_block_pool(gpu_block_pool)

    def has_pending_block_frees(self) -> bool:
        assert self.connector_scheduler is not None
        return self.connector_scheduler.has_pending_block_frees()

    def reset_cache(self) -> bool | None:
        assert self.connector_scheduler is not None
        self.connector_scheduler.reset_cache()
        return True

    def on_rpc(self, payload: bytes) -> bytes | None:
        """Answers an operator's question as JSON with JSON; None from a worker (vllm 51639)."""
        return None if self.connector_scheduler is None else self.connector_scheduler.on_rpc(payload)

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        assert self.connector_worker is not None
        return self.connector_worker.handshake_metadata()

    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        assert self.connector_worker is not None
        return self.connector_worker.take_report()

    def get_kv_connector_stats(self) -> LeaseStats | None:
        if self.connector_scheduler is not None:
            # vLLM asks once at the end of every step, also of one that has computed nothing.
            return self.connector_scheduler.step_ended()
        stats: LeaseStats | None = super().get_kv_connector_stats()
        return stats

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> LeaseStats:
        return LeaseStats() if data is None else LeaseStats(data=data)

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: "VllmConfig",
        metric_types: dict[Any, Any],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> LeasePromMetrics:
        return LeasePromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)
