"""All of kvlease in the process of an engine's scheduler; the hooks in `kvlease.vllm.scheduler` call it."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvlease.agent.loop import LeaseAgent
from kvlease.agent.nixl import NixlTransport
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Rank
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.protocol import LeaseCard, LeaseConfig, WorkerFence
from kvlease.protocol.messages import VERSION
from kvlease.vllm.compat import KVConnectorHandshakeMetadata, NixlHandshakePayload, nixl_package
from kvlease.vllm.envelope import CARD_RANK
from kvlease.vllm.metadata import LeasedHandshakePayload
from kvlease.vllm.metrics import SchedulerStatsFeed
from kvlease.vllm.requests import LeasedRequests
from kvlease.vllm.side_channel import SideChannelCards, wrap_card

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def open_agent(vllm_config: "VllmConfig", config: LeaseConfig, engine_id: str) -> LeaseAgent:
    """Makes the lease agent of an engine, which is still to be started."""
    backends = vllm_config.kv_transfer_config.get_from_extra_config("backends", ["UCX"])
    package = nixl_package()
    return LeaseAgent(config, engine_id, lambda own: NixlTransport(own, backends, package), SideChannelCards())


class SchedulerLeases:
    """The leases of one engine, in its scheduler's process.

    Attributes: `agent`, which its maker starts. `requests`: the decisions on each request. `step`: the lease's part of
    a step. `stats`: the figures for vLLM's /metrics. `counts`: events that this half counts itself, `refused.<kind>`.
    """

    def __init__(self, agent: LeaseAgent, config: LeaseConfig, workers: int, groups: int | None) -> None:
        """`workers`: those of this engine. `groups`: its KV cache groups; None for an engine that reads from other
        groupings as well."""
        producer, consumer = ProducerSide(config, agent, workers), ConsumerSide(agent, config.compare_media)
        self.agent = agent
        self.step = LeaseScheduler(agent, producer, consumer)
        self.requests = LeasedRequests(producer, consumer, groups)
        self.counts: Counter[str] = self.requests.counts
        self.stats = SchedulerStatsFeed(agent, producer, consumer, self.counts)

    def serve(self, metadata: Mapping[Rank, KVConnectorHandshakeMetadata]) -> dict[Rank, NixlHandshakePayload]:
        """Returns what a stock engine serves, by worker rank, and the lease card if the workers have fences.

        `metadata`: their `LeasedHandshakePayload`s.
        """
        served: dict[Rank, NixlHandshakePayload] = {}
        fences: list[WorkerFence] = []
        for rank, payload in metadata.items():
            assert isinstance(payload, LeasedHandshakePayload)
            served[rank] = payload.as_stock()
            if payload.fence_slots:
                fences.append(WorkerFence(*rank, payload.fence_base, payload.fence_slots))
        if fences:
            served[CARD_RANK] = wrap_card(self.open(fences))
        return served

    def open(self, fences: list[WorkerFence]) -> LeaseCard:
        """The workers have these fence tables: leases can be granted from now on. Returns the card that says so."""
        self.step.producer.open(min(fence.slots for fence in fences))
        by_rank = sorted(fences, key=lambda fence: (fence.pp_rank, fence.tp_rank))
        return LeaseCard([VERSION], self.agent.incarnation, self.agent.address, by_rank)
