"""What travels between the scheduler half and the worker half of the connector, beside vLLM's own metadata."""

from collections import Counter
from dataclasses import dataclass, field

from kvlease.fence.ledger import FenceOrders
from kvlease.protocol import LeaseRef
from kvlease.vllm.compat import KVConnectorWorkerMetadata, NixlConnectorMetadata, NixlHandshakePayload


@dataclass(frozen=True, slots=True)
class LeaseOrders:
    """Scheduler to workers, once a step."""

    fence: FenceOrders
    """Producer: the words to arm and to clear."""
    reads: dict[str, LeaseRef]
    """Consumer: of the requests that this step begins to read, those that are leased."""
    hopeless: frozenset[str]
    """Consumer: of the requests that this step begins to read, those that must not be: their load has failed."""


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
class LeaseWorkerReport(KVConnectorWorkerMetadata):
    """Workers to scheduler, in steps in which there is something to tell."""

    cleared: Counter[int] = field(default_factory=Counter)
    """Producer: slots whose words were cleared, by how many workers."""
    heartbeats: set[str] = field(default_factory=set)
    """Producer: leased requests that stock consumers sent heartbeats for."""

    def aggregate(self, other: KVConnectorWorkerMetadata) -> "LeaseWorkerReport":
        assert isinstance(other, LeaseWorkerReport)
        return LeaseWorkerReport(self.cleared + other.cleared, self.heartbeats | other.heartbeats)
