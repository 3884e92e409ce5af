"""vLLM's own code, without an engine around it: its scheduler's and its worker's half, and a NIXL that costs nothing.

The methods that are measured are vLLM's, unchanged; what its constructors would take from a model and a network is put
there by hand. Notifications are recorded instead of sent.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from proof.bench.frame.errors import require

if TYPE_CHECKING:
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorScheduler, NixlPullConnectorWorker

LEASE_S = 30
"""vLLM's default lease, and kvlease's."""
BLOCK_TOKENS = 16

# The state of a worker that is empty in an engine that has just started.
_MAPS = (
    "_reqs_to_send",
    "_recving_metadata",
    "_pending_recv_notifs",
    "_handshake_futures",
    "_remote_agents",
    "_engine_by_address",
    "_engine_clock_offset",
    "_engine_last_active",
    "_invalid_engine_backoff",
    "expected_consumer_notifications_by_req",
    "tp_mappings",
    "dst_region_group_ids",
    "dst_xfer_side_handles",
    "src_xfer_handles_by_block_size",
    "src_xfer_handles_by_tp_ratio",
)
_SETS = (
    "_reqs_to_process",
    "_replicated_pcp_done_sending",
    "_recv_failures",
    "_failed_remote_engines",
    "_invalid_remote_engines",
)
_QUEUES = ("_failed_recv_reqs", "_ready_requests", "_invalid_block_ids")


def require_vllm() -> None:
    """Checks that vLLM's own code, which stock needs, is there. Raises `CannotRun`."""
    require("torch", "vllm", "nixl")


class SilentNixl:
    """A NIXL agent that hands over the notifications it is given, and keeps account of those that it is to send."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[bytes]] = {}
        self.messages = 0
        self.bytes = 0

    def get_new_notifs(self) -> dict[str, list[bytes]]:
        return self.arrived

    def send_notif(self, remote_agent_name: str, notif_msg: bytes) -> None:
        del remote_agent_name
        self.messages += 1
        self.bytes += len(notif_msg)

    def check_remote_metadata(self, agent: str) -> bool:
        del agent
        return True

    def get_reg_descs(self, descs: Any, mem_type: str) -> Any:
        del mem_type
        return descs

    def get_xfer_descs(self, descs: Any, mem_type: str) -> Any:
        del mem_type
        return descs

    def register_memory(self, reg_list: Any, *, backends: Iterable[str] = ()) -> Any:
        del backends
        return reg_list

    def deregister_memory(self, registered: Any, *, backends: Iterable[str] = ()) -> None:
        del registered, backends


def request_ids(count: int) -> list[str]:
    """Makes ids as vLLM does for completions without a name from outside: "cmpl-<16 hex>-0-<8 hex>"."""
    from vllm.utils import random_uuid

    return [f"cmpl-{random_uuid()}-0-{random_uuid():.8}" for _ in range(count)]


def engine_config() -> Any:
    """The part of `VllmConfig` that the scheduler's half takes: a plain engine with vLLM's defaults."""
    return SimpleNamespace(
        parallel_config=SimpleNamespace(
            tensor_parallel_size=1, decode_context_parallel_size=1, data_parallel_index=0, pipeline_parallel_size=1
        ),
        cache_config=SimpleNamespace(block_size=BLOCK_TOKENS),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=True),
        kv_transfer_config=SimpleNamespace(
            kv_buffer_device="cpu", get_from_extra_config=lambda _, default: default, is_kv_producer=True
        ),
        num_prefill_lookahead_tokens=0,
    )


def cache_config() -> Any:
    """The part of `KVCacheConfig` that the scheduler's half takes: one group of full attention."""
    return SimpleNamespace(
        transfer_groups=[SimpleNamespace(kv_cache_spec=None)],
        transfer_group_ids=(0,),
        kv_cache_groups=[],
        kv_cache_tensors=[],
        has_mamba_layers=False,
        num_blocks=1024,
        select_transfer_block_ids=lambda block_ids: block_ids,
    )


def bare_scheduler() -> "NixlPullConnectorScheduler":
    """vLLM's scheduler half."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorScheduler

    return NixlPullConnectorScheduler(engine_config(), "engine", cache_config())


def bare_worker(nixl: SilentNixl, tp_rank: int = 0, tp_size: int = 1) -> "NixlPullConnectorWorker":
    """vLLM's worker half of one rank."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorWorker

    worker = NixlPullConnectorWorker.__new__(NixlPullConnectorWorker)
    furnish(worker, nixl, tp_rank, tp_size)
    return worker


def furnish(worker: Any, nixl: SilentNixl, tp_rank: int = 0, tp_size: int = 1) -> None:
    """Gives a worker, made without its constructor, what hearing, renewing, expiring and an idle step look at."""
    from vllm.distributed.kv_transfer.kv_connector.utils import TransferTopology
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.stats import NixlKVConnectorStats

    worker.nixl_wrapper, worker.nixl_backends = nixl, ["UCX"]
    worker.engine_id = "engine"
    worker.tp_rank = tp_rank
    worker.pcp_rank = 0
    worker.dcp_size = 1
    worker.pcp_dcp_sharded = False
    worker.use_mla = worker.use_host_buffer = worker._has_mamba = worker._is_hma_required = False
    worker._bidirectional_kv_xfer_enabled = worker._hb_handshake_notif_only = worker._mixed_mem_types = False
    worker._physical_blocks_per_logical_kv_block = 1
    worker._lease_extension = LEASE_S * 2 / 3
    worker._engine_ttl = 0.0
    worker.block_size = BLOCK_TOKENS
    worker.transfer_topo = TransferTopology(
        tp_rank=tp_rank,
        tp_size=tp_size,
        block_size=BLOCK_TOKENS,
        engine_id="engine",
        is_mla=False,
        is_mamba=False,
        total_num_kv_heads=8,
        attn_backends=[],
    )
    worker.xfer_stats = NixlKVConnectorStats()
    worker._handshake_lock = threading.RLock()
    worker._recving_transfers = defaultdict(list)
    worker.consumer_notification_counts_by_req = defaultdict(int)
    for name in _MAPS:
        setattr(worker, name, {})
    for name in _SETS:
        setattr(worker, name, set())
    for name in _QUEUES:
        setattr(worker, name, queue.Queue())
    worker.region_group_ids = []


# All that benchmarks, and the tests of them, call and look at beneath the surface of vLLM's two halves is below and
# nowhere else, so that a vLLM which names it otherwise is met in one place. vLLM's own functions are handed out as they
# are, since they are what is timed.


def beats_per_term(scheduler: Any) -> int:
    """The heartbeats of one worker to one other within one lease."""
    return int(scheduler._kv_lease_duration // scheduler._heartbeat_interval)


def make_heartbeat_due(scheduler: Any) -> None:
    """Makes a heartbeat due, as if the last one were long ago."""
    scheduler._last_heartbeat_time = 0.0


def heartbeat_sender(worker: Any) -> Callable[[Any], object]:
    """The function that sends the heartbeats that a step's metadata asks for."""
    send: Callable[[Any], object] = worker._send_heartbeats
    return send


def hearer(worker: Any) -> Callable[[], set[str]]:
    """The function that hears heartbeats and notices; it returns the requests that all consumers have read."""
    hear: Callable[[], set[str]] = worker._get_new_notifs
    return hear


def reaper(worker: Any) -> Callable[[set[str]], object]:
    """The function that looks for leases that have expired."""
    reap: Callable[[set[str]], object] = worker._reap_expired_send_leases
    return reap


def reader(worker: Any) -> Callable[[str, Any], object]:
    """The function that begins to read a request's blocks."""
    read: Callable[[str, Any], object] = worker._read_blocks_for_req
    return read


def connect(worker: Any, engine: str, agents: dict[tuple[int, int], str]) -> None:
    """Puts a worker after the handshake with another engine; `agents` are by the (PP, TP) rank of their workers."""
    worker._remote_agents[engine] = agents


def hold(worker: Any, request_ids: Iterable[str], deadline: float) -> None:
    """Lets these requests wait to be read until `deadline`, by `time.perf_counter`."""
    worker._reqs_to_process = set(request_ids)
    worker._reqs_to_send = dict.fromkeys(request_ids, deadline)


def held(worker: Any) -> dict[str, float]:
    """The requests that wait to be read, and their deadlines."""
    deadlines: dict[str, float] = worker._reqs_to_send
    return deadlines


def bare_connector(kind: Any, scheduler: Any = None, worker: Any = None) -> Any:
    """Makes a connector of this class, without its constructor, over one or the other half."""
    connector = kind.__new__(kind)
    connector.connector_scheduler, connector.connector_worker = scheduler, worker
    connector.kv_transfer_config = SimpleNamespace(kv_role="kv_producer")
    connector._connector_metadata = None
    return connector
