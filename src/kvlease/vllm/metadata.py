"""The data about leases between the scheduler half and the worker half of the connector, besides vLLM's own."""

from dataclasses import dataclass

from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.fence import SharedPlace
from kvlease.vllm.compat import KVConnectorWorkerMetadata, NixlConnectorMetadata, NixlHandshakePayload


class LeasedMetadata(NixlConnectorMetadata):
    """vLLM's step metadata with orders about leases. In a step without orders, the workers get vLLM's own."""

    kv_lease: LeaseOrders

    @classmethod
    def around(cls, stock: NixlConnectorMetadata, orders: LeaseOrders) -> "LeasedMetadata":
        """Returns the content of `stock` together with `orders`."""
        metadata = cls.__new__(cls)
        metadata.__dict__.update(stock.__dict__)
        metadata.kv_lease = orders
        return metadata


@dataclass
class LeasedHandshakePayload(NixlHandshakePayload):
    """vLLM's handshake of one worker, with the place of its fence table. It goes to the engine's own scheduler only."""

    fence_base: int = 0
    """The virtual address of the first word."""
    fence_slots: int = 0
    """The number of words; 0 if this worker has no table."""
    fence_place: SharedPlace | None = None
    """The place at which a scheduler on the same host finds them."""

    def as_stock(self) -> NixlHandshakePayload:
        """Returns the entry that the side channel serves for this worker: the same bytes as a stock engine's."""
        return NixlHandshakePayload(
            compatibility_hash=self.compatibility_hash, agent_metadata_bytes=self.agent_metadata_bytes
        )


@dataclass
class LeasedWorkerReport(KVConnectorWorkerMetadata):
    """The report of one worker, or of all of them together, to the scheduler about leases."""

    report: WorkerReport

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "LeasedWorkerReport":
        assert isinstance(other, LeasedWorkerReport)
        return LeasedWorkerReport(self.report | other.report)
