"""The messages that vLLM's own code sends for the same leases: heartbeats, and the notices that a request was read."""

from dataclasses import dataclass
from typing import Any

from proof.bench.core import stock
from proof.bench.core.stock import SilentNixl, bare_scheduler, bare_worker, connect, heartbeat_sender, reader

ENGINE = "prefill"


@dataclass(frozen=True, slots=True)
class Sent:
    """The messages that all workers of the decode engine have sent together."""

    messages: int
    bytes: int


def beats_per_term() -> int:
    """The heartbeats of one worker to one other within one lease, with vLLM's default lease."""
    return stock.beats_per_term(bare_scheduler())


def heartbeat(ids: list[str], producer_tp: int, consumer_tp: int) -> Sent:
    """Sends the heartbeats of one interval, for requests that all wait for the same producer."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import HeartbeatInfo, NixlConnectorMetadata

    metadata = NixlConnectorMetadata()
    metadata.heartbeat_by_engine = {ENGINE: HeartbeatInfo(set(ids), "host", 5600, producer_tp)}
    nixl = SilentNixl()
    for worker in consumer_workers(nixl, producer_tp, consumer_tp):
        heartbeat_sender(worker)(metadata)
    return Sent(nixl.messages, nixl.bytes)


def notices(request_id: str, producer_tp: int, consumer_tp: int) -> Sent:
    """Sends the notices of one request that has been read.

    vLLM sends the same notice with the data, or by itself where the data is there already, as it is here.
    """
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import RemoteMeta, ReqMeta

    nixl = SilentNixl()
    for worker in consumer_workers(nixl, producer_tp, consumer_tp):
        remote = RemoteMeta(([],), "host", 5600, ENGINE, request_id)
        reader(worker)(request_id, ReqMeta(([],), ([],), producer_tp, remote=remote))
    return Sent(nixl.messages, nixl.bytes)


def consumer_workers(nixl: SilentNixl, producer_tp: int, consumer_tp: int) -> list[Any]:
    """Every worker of the decode engine, after its handshake with those of the producer that vLLM chooses for it."""
    from vllm.distributed.kv_transfer.kv_connector.utils import EngineTransferInfo
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.tp_mapping import compute_tp_mapping
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    workers = []
    for rank in range(consumer_tp):
        worker: Any = bare_worker(nixl, rank, consumer_tp)
        topology = worker.transfer_topo
        topology.register_remote_engine(
            ENGINE,
            EngineTransferInfo(
                remote_tp_size=producer_tp,
                remote_block_len=1,
                remote_block_size=topology.block_size,
                remote_physical_blocks_per_logical=1,
            ),
        )
        ranks = topology.handshake_target_ranks(producer_tp)
        connect(worker, ENGINE, {(0, target): f"worker {target}" for target in ranks})
        worker.tp_mappings[ENGINE] = compute_tp_mapping(topology, producer_tp, (FullAttentionSpec,))
        _add_empty_handles(worker, ranks, topology.tp_ratio(producer_tp))
        workers.append(worker)
    return workers


def _add_empty_handles(worker: Any, ranks: list[int], tp_ratio: int) -> None:
    """Gives the worker memory that nothing is read into."""
    size = worker.block_size
    worker.dst_region_group_ids[ENGINE] = []
    worker.dst_xfer_side_handles[ENGINE] = dict.fromkeys(ranks, 0)
    worker.src_xfer_handles_by_block_size[size] = 0
    worker.src_xfer_handles_by_tp_ratio[tp_ratio, size] = [0] * len(ranks)
