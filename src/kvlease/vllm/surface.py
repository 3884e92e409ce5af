"""All that kvlease needs of vLLM, in one table: what it calls, overrides and reads (R36).

It is compared twice. When an engine starts, with the imported vLLM: all that is missing is listed before anything runs,
instead of an AttributeError in some step. And by the contract tests (`tests/contract/`) with the text of any vLLM, so
that a release is judged on its first day. This module imports vLLM only in `check`.
"""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from kvlease.errors import UnsupportedEngine

TESTED = ("0.30", "0.31", "0.32", "0.33")
"""The minor versions of vLLM that the tests on real engines are run with."""
TRY_ANYWAY = "KVLEASE_ANY_VLLM"

V1 = "vllm.distributed.kv_transfer.kv_connector.v1"
NIXL = f"{V1}.nixl"
CONNECTOR = f"{NIXL}.connector:NixlBaseConnector"
PULL_CONNECTOR = f"{NIXL}.connector:NixlPullConnector"
SCHEDULER = f"{NIXL}.base_scheduler:NixlBaseConnectorScheduler"
PULL_SCHEDULER = f"{NIXL}.pull_scheduler:NixlPullConnectorScheduler"
WORKER = f"{NIXL}.base_worker:NixlBaseConnectorWorker"
PULL_WORKER = f"{NIXL}.pull_worker:NixlPullConnectorWorker"
BASE = f"{V1}.base:KVConnectorBase_V1"
WORKER_META = f"{V1}.base:KVConnectorWorkerMetadata"
METADATA = f"{NIXL}.metadata:NixlConnectorMetadata"
HANDSHAKE = f"{NIXL}.metadata:NixlHandshakePayload"
STATS = f"{NIXL}.stats:NixlKVConnectorStats"
ANY_STATS = f"{V1}.metrics:KVConnectorStats"
PROM = f"{NIXL}.stats:NixlPromMetrics"
ANY_PROM = f"{V1}.metrics:KVConnectorPromMetrics"
REQUEST = "vllm.v1.request:Request"
CACHE = "vllm.v1.kv_cache_interface:KVCacheConfig"
TENSOR = "vllm.v1.kv_cache_interface:KVCacheTensor"
UTILS = "vllm.distributed.kv_transfer.kv_connector.utils"
POOL = "vllm.v1.core.block_pool:BlockPool"
BLOCK = "vllm.v1.core.kv_cache_utils:KVCacheBlock"
ENGINE = "vllm.v1.engine.core:EngineCoreProc"
FACTORY = "vllm.distributed.kv_transfer.kv_connector.factory:KVConnectorFactory"


class Used(NamedTuple):
    """A part of vLLM: `module:Class.method`, and the names of its parameters; None where they do not matter."""

    where: str
    takes: str | None = None


PLACES: tuple[Used, ...] = (
    Used(f"{V1}.base:KVConnectorHandshakeMetadata"),
    Used(f"{V1}.base:KVConnectorRole.SCHEDULER"),
    Used(f"{V1}.base:KVConnectorTransferResults.finished_recving"),
    Used(f"{V1}.base:KVConnectorTransferResults.finished_sending"),
    Used(f"{WORKER_META}.aggregate", "self other"),
    Used(f"{BASE}.build_connector_worker_meta", "self"),
    Used(f"{BASE}.get_transfer_results", "self finished_req_ids"),
    Used(f"{BASE}.get_kv_connector_stats", "self"),
    Used(f"{BASE}.build_prom_metrics", "cls vllm_config metric_types labelnames per_engine_labelvalues"),
    Used(f"{BASE}.bind_kv_cache_manager", "self kv_cache_manager"),
    Used(f"{BASE}.bind_gpu_block_pool", "self gpu_block_pool"),
    Used(f"{BASE}.has_pending_push_work", "self"),
    Used(f"{BASE}.has_pending_block_frees", "self"),
    Used(f"{BASE}.reset_cache", "self"),
    Used(f"{NIXL}.metadata:GET_META_MSG"),
    Used(f"{NIXL}.metadata:ReqMeta.remote"),
    Used(f"{NIXL}.metadata:RemoteMeta.engine_id"),
    Used(f"{NIXL}.metadata:RemoteMeta.host"),
    Used(f"{NIXL}.metadata:RemoteMeta.port"),
    Used(f"{HANDSHAKE}.compatibility_hash"),
    Used(f"{HANDSHAKE}.agent_metadata_bytes"),
    Used(f"{ANY_STATS}.data"),
    Used(f"{STATS}.reset", "self"),
    Used(f"{STATS}.is_empty", "self"),
    Used(f"{STATS}.aggregate", "self other"),
    Used(f"{STATS}.reduce", "self"),
    Used(f"{STATS}.record_kv_expired_req", "self"),
    Used(f"{PROM}.__init__", "self vllm_config metric_types labelnames per_engine_labelvalues"),
    Used(f"{PROM}.observe", "self transfer_stats_data engine_idx"),
    Used(f"{NIXL}.tp_mapping:TPMapping.all_source_ranks"),
    Used(f"{UTILS}:TransferTopology.get_engine_info"),
    Used(f"{UTILS}:EngineTransferInfo.remote_block_size"),
    Used(f"{UTILS}:EngineTransferInfo.remote_physical_blocks_per_logical"),
    Used(PULL_CONNECTOR),
    Used(f"{CONNECTOR}.__init__", "self vllm_config role kv_cache_config"),
    Used(f"{CONNECTOR}.get_transfer_results", "self finished_req_ids"),
    Used(f"{CONNECTOR}.get_handshake_metadata", "self"),
    Used(f"{CONNECTOR}.build_kv_connector_stats", "cls data"),
    Used(f"{CONNECTOR}.set_xfer_handshake_metadata_pp_aware", "self metadata"),
    Used(f"{CONNECTOR}.has_pending_push_work", "self"),
    Used(f"{SCHEDULER}.__init__", "self vllm_config engine_id kv_cache_config"),
    Used(f"{SCHEDULER}.set_xfer_handshake_metadata", "self metadata"),
    Used(f"{SCHEDULER}._nixl_handshake_listener", "encoded_data ready_event stop_event host port"),
    Used(f"{SCHEDULER}.on_new_request", "self request"),
    Used(f"{SCHEDULER}.build_connector_meta", "self scheduler_output"),
    Used(f"{SCHEDULER}.update_connector_output", "self connector_output"),
    Used(f"{SCHEDULER}.shutdown", "self"),
    Used(f"{SCHEDULER}.has_pending_push_work", "self"),
    Used(f"{PULL_SCHEDULER}.get_num_new_matched_tokens", "self request num_computed_tokens"),
    Used(f"{PULL_SCHEDULER}.update_state_after_alloc", "self request blocks num_external_tokens"),
    Used(f"{PULL_SCHEDULER}.request_finished", "self request block_ids"),
    Used(f"{WORKER}.__init__", "self vllm_config engine_id kv_cache_config"),
    Used(f"{WORKER}.register_kv_caches", "self kv_caches"),
    Used(f"{WORKER}.shutdown", "self"),
    Used(f"{WORKER}.get_transfer_results", "self"),
    Used(f"{WORKER}._handle_heartbeat", "self payload"),
    Used(f"{WORKER}._pop_done_transfers", "self transfers"),
    Used(f"{WORKER}._ensure_handshake", "self engine_id host port tp_size dcp_size pp_size notif_agents_only"),
    Used(f"{WORKER}._background_nixl_handshake", "self req_id remote_engine_id meta"),
    Used(f"{WORKER}._engines_with_inflight_transfers", "self"),
    Used(f"{WORKER}._cleanup_remote_engine", "self engine_id log_eviction"),
    Used(f"{PULL_WORKER}.start_load_kv", "self metadata"),
    Used(f"{PULL_WORKER}._read_blocks_for_req", "self req_id meta"),
    Used(f"{PULL_WORKER}._get_new_notifs", "self"),
    Used("vllm.v1.outputs:KVConnectorOutput.kv_connector_worker_meta"),
    Used("vllm.v1.outputs:KVConnectorOutput.finished_recving"),
    Used("vllm.v1.outputs:KVConnectorOutput.failed_recving"),
    Used("vllm.v1.outputs:KVConnectorOutput.kv_connector_stats"),
    Used(f"{CACHE}.transfer_groups"),
    Used(f"{CACHE}.num_blocks"),
    Used(f"{CACHE}.kv_cache_tensors"),
    Used(f"{TENSOR}.size"),
    Used(f"{TENSOR}.host_resident"),
    # `call_utility_all_async` has come with 0.32 (`endpoint.call_all`).
    Used("vllm.v1.engine.core_client:AsyncMPClient._call_utility_async", "self method engine"),
    Used("vllm.v1.engine.core:EngineCoreProc._invoke_utility_method", "name get_result output enqueue_output"),
    Used("vllm.plugins.endpoint_plugins.interface:EndpointPlugin.attach_router", "self app"),
    Used("vllm.plugins.endpoint_plugins.interface:EndpointPlugin.init_state", "self engine_client state args"),
    Used(f"{POOL}.touch", "self blocks"),
    Used(f"{POOL}.free_blocks", "self ordered_blocks"),
    Used(f"{POOL}.unpin_blocks", "self blocks on_reuse"),
    Used(f"{POOL}.get_num_free_blocks", "self"),
    Used(f"{POOL}.reset_prefix_cache", "self"),
    Used(f"{BLOCK}.block_id"),
    Used("vllm.v1.engine:EngineCoreRequestType.WAKEUP"),
    Used("vllm.v1.engine.core:EngineShutdownState.RUNNING"),
    Used("vllm.lora.request:LoRARequest.lora_name"),
    Used("vllm.multimodal.inputs:MultiModalFeatureSpec.identifier"),
    Used("vllm.multimodal.inputs:MultiModalFeatureSpec.data"),
    Used("vllm.multimodal.inputs:MultiModalKwargsItem.get_data", "self"),
    Used("vllm.multimodal.hasher:MultiModalHasher.hash_kwargs"),
    Used("vllm.multimodal.inputs:MultiModalFeatureSpec.mm_position"),
    Used("vllm.multimodal.inputs:PlaceholderRange.offset"),
    Used("vllm.multimodal.inputs:PlaceholderRange.length"),
    Used("vllm.utils.network_utils:make_zmq_path", "scheme host port"),
    Used("vllm.config.vllm:VllmConfig.__post_init__", "self"),
    Used("vllm.config.vllm:VllmConfig.kv_transfer_config"),
    Used("vllm.config.vllm:VllmConfig.model_config"),
    Used("vllm.config.vllm:VllmConfig.parallel_config"),
    Used("vllm.config.vllm:VllmConfig.shutdown_timeout"),
    Used("vllm.config.kv_transfer:KVTransferConfig.kv_connector"),
    Used("vllm.config.kv_transfer:KVTransferConfig.kv_connector_extra_config"),
    Used("vllm.config.model:ModelConfig.has_inner_state"),
    Used("vllm.config.model:ModelConfig.use_mla"),
    Used("vllm.config.model:ModelConfig.served_model_name"),
    Used("vllm.config.parallel:ParallelConfig.world_size"),
    Used("vllm.config.parallel:ParallelConfig.data_parallel_index"),
    Used("vllm.config.vllm:VllmConfig.observability_config"),
    Used("vllm.config.observability:ObservabilityConfig.otlp_traces_endpoint"),
    Used("vllm.distributed.nixl_utils:NixlWrapper"),
    Used("vllm.config.kv_transfer:KVTransferConfig.get_from_extra_config", "self key default"),
    Used(f"{FACTORY}._registry"),
    Used(f"{FACTORY}.register_connector", "cls name module_path class_name"),
)
ATTRIBUTES: dict[str, str] = {
    CONNECTOR: "connector_scheduler connector_worker engine_id",
    METADATA: "reqs_to_recv reqs_not_processed",
    SCHEDULER: "_kv_lease_duration _heartbeat_interval _reqs_need_recv _reqs_need_send _reqs_not_processed "
    "kv_cache_config",
    WORKER: "nixl_wrapper nixl_backends xfer_handshake_metadata _recving_metadata _reqs_to_process "
    "_lease_extension xfer_stats "
    "_remote_agents _ready_requests _pending_recv_notifs _handshake_initiation_executor _recv_failures tp_mappings "
    "_handshake_lock _handshake_futures transfer_topo block_size _physical_blocks_per_logical_kv_block "
    "kv_cache_config vllm_config engine_id tp_rank consumer_notification_counts_by_req "
    "expected_consumer_notifications_by_req",
    POOL: "blocks num_gpu_blocks",
    "vllm.v1.core.kv_cache_manager:KVCacheManager": "block_pool coordinator",
    "vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator": "single_type_managers",
    "vllm.v1.core.single_type_kv_cache_manager:SingleTypeKVCacheManager": "block_pool",
    ENGINE: "input_queue shutdown_state",
    "vllm.v1.engine.core_client:MPClient": "core_engines",
    ANY_PROM: "_counter_cls _gauge_cls _histogram_cls per_engine_labelvalues",
    REQUEST: "request_id kv_transfer_params sampling_params prompt_token_ids prompt_embeds "
    "prompt_is_token_ids num_computed_tokens num_prompt_tokens lora_request mm_features cache_salt abort_immediately "
    "trace_headers",
}
"""The attributes that kvlease uses and a class's `__init__` sets, by class."""


def check() -> None:
    """Raises `UnsupportedEngine` with a list of all that the imported vLLM lacks, if it lacks anything."""
    missing = list(_missing())
    if missing:
        import vllm

        raise UnsupportedEngine(
            f"this is vLLM {vllm.__version__}, and kvlease cannot run with it: {'; '.join(missing)}. Use a version "
            "that kvlease is tested with (docs/operate/install.md)."
        )


def _missing() -> Iterator[str]:
    for place in PLACES:
        found = _find(place.where)
        if found is _NOTHING:
            yield f"{place.where} is missing"
        elif place.takes is not None and (takes := _parameters(found)) not in (place.takes, _ANYTHING):
            yield f"{place.where} takes ({takes}) and not ({place.takes})"
    for where, names in ATTRIBUTES.items():
        kind = _find(where)
        if kind is _NOTHING:
            yield f"{where} is missing"
            continue
        known = inspect.unwrap(kind.__init__).__code__.co_names
        yield from (f"{where}.__init__ sets no {name}" for name in names.split() if name not in known)


_NOTHING: Any = object()
_ANYTHING = "*args **kwargs"
"""The parameters of a wrapper that somebody has put around a function of vLLM, to trace it: they tell nothing."""


def _find(where: str) -> Any:
    module, _, dotted = where.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError:
        return _NOTHING
    for name in dotted.split("."):
        # Read from the class's dict, where a class method is unbound, and a field without default only an annotation.
        inside = vars(found)
        annotated = inspect.get_annotations(found) if inspect.isclass(found) else {}
        if name not in inside and name not in annotated:
            return _NOTHING
        found = inside.get(name, None)
    return found


def _parameters(function: Any) -> str:
    plain = function.__func__ if isinstance(function, classmethod | staticmethod) else function
    given = inspect.signature(plain).parameters
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in given.values()):
        return _ANYTHING
    return " ".join(given)
