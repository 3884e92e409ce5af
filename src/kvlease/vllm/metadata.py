"""What travels between the scheduler half and the worker half of the connector, beside vLLM's own metadata."""

from dataclasses import dataclass

from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.vllm.compat import KVConnectorWorkerMetadata, NixlConnectorMetadata, NixlHandshakePayload


class LeasedMetadata(NixlConnectorMetadata):
    """vLLM's step metadata, with orders about leases. Where there are none, the workers get vLLM's own."""

    kv_lease: LeaseOrders

    @classmethod
    def around(cls, stock: NixlConnectorMetadata, orders: LeaseOrders) -> "LeasedMetadata":
        """The content of `stock`, and `orders`."""
        metadata = cls.__new__(cls)
        metadata.__dict__.update(stock.__dict__)
        metadata.kv_lease = orders
        return metadata


@dataclass
class LeasedHandshakePayload(NixlHandshakePayload):
    """vLLM's handshake of one worker, with the place of its fence table. It goes to the own scheduler only."""

    fence_base: int = 0
    """Virtual address of the first word."""
    fence_slots: int = 0
    """0: this worker has no table."""

    def as_stock(self) -> NixlHandshakePayload:
        """What the side channel serves under this worker's rank: to the byte what a stock engine serves."""
        return NixlHandshakePayload(
            compatibility_hash=self.compatibility_hash, agent_metadata_bytes=self.agent_metadata_bytes
        )


@dataclass
class LeasedWorkerReport(KVConnectorWorkerMetadata):
    """What one worker, or all of them together, tell the scheduler about leases."""

    report: WorkerReport

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "LeasedWorkerReport":
        assert isinstance(other, LeasedWorkerReport)
        return LeasedWorkerReport(self.report | other.report)
