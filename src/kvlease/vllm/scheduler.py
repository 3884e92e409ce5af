"""The connector's half in the scheduler: prepares, grants and ends leases as a producer, keeps them as a consumer.

Thin hooks around vLLM's own pull scheduler; each calls it and adds what a lease needs. Nothing here waits for the lease
agent, and nothing costs more with more leases outstanding.
"""

import threading
from typing import TYPE_CHECKING, Any

from kvlease.agent.loop import LeaseAgent
from kvlease.agent.nixl import NixlTransport
from kvlease.fence.ledger import NO_ORDERS
from kvlease.protocol import CARD_RANK, LeaseCard, WorkerFence
from kvlease.protocol.messages import VERSION
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.producer import ProducerSide
from kvlease.vllm.compat import (
    KVConnectorHandshakeMetadata,
    NixlConnectorMetadata,
    NixlPullConnectorScheduler,
    nixl_package,
)
from kvlease.vllm.listener import HandshakeListener
from kvlease.vllm.metadata import LeasedHandshakePayload, LeasedMetadata, LeaseOrders, LeaseWorkerReport
from kvlease.vllm.metrics import LeaseStats, SchedulerStatsFeed
from kvlease.vllm.prompts import fingerprint_of, is_answered
from kvlease.vllm.settings import lease_config
from kvlease.vllm.side_channel import SideChannelCards, wrap_card

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


class LeasedScheduler(NixlPullConnectorScheduler):
    """`NixlPullConnectorScheduler` with leases that hold."""

    _maps_groups = False
    """Whether vLLM's worker reads from engines that group their KV cache otherwise, as for MLA (vllm 57077, 57389)."""

    def __init__(self, vllm_config: "VllmConfig", engine_id: str, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, engine_id, kv_cache_config)
        self._config, _ = lease_config(vllm_config)
        # The stock mechanism, for stock peers, keeps to the same settings.
        self._kv_lease_duration = self._config.duration_s
        self._heartbeat_interval = self._config.renew_interval_s
        backends = vllm_config.kv_transfer_config.get_from_extra_config("backends", ["UCX"])
        package = nixl_package()
        self._agent = LeaseAgent(
            self._config, engine_id, lambda own: NixlTransport(own, backends, package), SideChannelCards()
        )
        world_size = vllm_config.parallel_config.world_size
        self._producer = ProducerSide(self._config, self._agent, world_size, fingerprint_of)
        self._consumer = ConsumerSide(self._agent, fingerprint_of, self._config.compare_media)
        self.stats = SchedulerStatsFeed(self._agent, self._producer, self._consumer)
        """What the connector tells of leases on vLLM's /metrics."""
        self._maps_groups = vllm_config.model_config.use_mla
        self._agent.start()

    # -- an engine starts and ends -------------------------------------------------------------------------------

    def set_xfer_handshake_metadata(self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]) -> None:
        """Serve what a stock engine serves, and the lease card beside it when this engine is a producer."""
        stock: dict[tuple[int, int], KVConnectorHandshakeMetadata] = {}
        fences: list[WorkerFence] = []
        for (pp_rank, tp_rank), payload in metadata.items():
            assert isinstance(payload, LeasedHandshakePayload)
            stock[pp_rank, tp_rank] = payload.as_stock()
            if payload.fence_slots:
                fences.append(WorkerFence(pp_rank, tp_rank, payload.fence_base, payload.fence_slots))
        if fences:
            self._producer.open(min(fence.slots for fence in fences))
            stock[CARD_RANK] = wrap_card(
                LeaseCard([VERSION], self._agent.incarnation, self._agent.address, sorted(fences, key=_by_rank))
            )
        super().set_xfer_handshake_metadata(stock)

    def shutdown(self) -> None:
        self._agent.close()
        super().shutdown()

    # -- a request comes, is scheduled, and ends -----------------------------------------------------------------

    def _nixl_handshake_listener(
        self,
        encoded_data: dict[tuple[int, int], bytes],
        ready_event: threading.Event,
        stop_event: threading.Event,
        host: str,
        port: int,
    ) -> None:
        """In a thread of its own; stock's does not outlive the first question that it does not understand."""
        HandshakeListener(encoded_data, self._producer.counts).serve(host, port, ready_event, stop_event)

    def on_new_request(self, request: "Request") -> None:
        self._consumer.vet(request, None if self._maps_groups else len(self.kv_cache_config.transfer_groups))
        if (request.kv_transfer_params or {}).get("do_remote_decode"):
            # Before vLLM's own hook, which may cut the prompt short.
            self._producer.take_on(request)
        # A leased request is renewed by the agent, from here on; stock heartbeats are for stock producers. One that is
        # to end at once is vLLM's way to let go of a prefill whose request it refused: it has a prompt of one token.
        if not self._consumer.take_on(request, reads=not request.abort_immediately):
            super().on_new_request(request)

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        super().update_state_after_alloc(request, blocks, num_external_tokens)
        params = request.kv_transfer_params or {}
        if params.get("do_remote_decode"):
            self._producer.prepare(request.request_id)
        if num_external_tokens == 0 and self._consumer.has(request.request_id):
            # All of it is here already: there is nothing to read, and no worker has to say so to the producer.
            self._reqs_need_recv.pop(request.request_id, None)
            self._consumer.release(request.request_id)

    def request_finished(
        self, request: "Request", block_ids: "tuple[list[int], ...]"
    ) -> tuple[bool, dict[str, Any] | None]:
        request_id = request.request_id
        params = request.kv_transfer_params or {}
        if self._consumer.has(request_id) and params.get("do_remote_prefill"):
            # It ended before anything was read. Stock would have a worker tell the producer; here the agent does. (One
            # that ends while it is being read keeps its lease until the workers are through.)
            self._consumer.release(request_id)
            params["do_remote_prefill"] = False
        delay_free, offer = super().request_finished(request, block_ids)
        if not params.get("do_remote_decode"):
            return delay_free, offer
        prompt = self._producer.take_prompt(request_id)
        if not self._producer.has(request_id):
            return self._withhold(request_id, offer) if delay_free and offer else (delay_free, offer)
        if not delay_free or offer is None:
            self._producer.abort(request_id)
            return delay_free, offer
        if prompt is None or not is_answered(request):
            return self._end_unheard(request_id)
        # These blocks are the lessor's to take back. Had they a deadline in vLLM as well, however far away, its worker
        # would look at every one of them in every step.
        del self._reqs_need_send[request_id]
        return True, offer | {"kv_lease": self._producer.grant(request, prompt, block_ids).to_params()}

    def _end_unheard(self, request_id: str) -> tuple[bool, None]:
        """Nobody will ever be told of these blocks: vLLM frees them now, and not when a term is over."""
        self._producer.abort(request_id)
        del self._reqs_need_send[request_id]
        self._reqs_not_processed.add(request_id)
        return False, None

    def _withhold(self, request_id: str, offer: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """No lease, no offer: never an unfenced one. The decode engine computes the prompt itself.

        Whoever looks at the answer on the way finds what vLLM's have, and no block (dynamo 15057).
        """
        del self._reqs_need_send[request_id]
        self._reqs_not_processed.add(request_id)
        nothing: list[list[int]] = [[] for _ in offer["remote_block_ids"]]
        return False, offer | {"do_remote_prefill": False, "remote_block_ids": nothing, "remote_num_tokens": 0}

    # -- a step begins and ends ----------------------------------------------------------------------------------

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> NixlConnectorMetadata:
        word = self._agent.progress()
        beginning = tuple(self._reqs_need_recv) if self._reqs_need_recv else ()
        stock: NixlConnectorMetadata = super().build_connector_meta(scheduler_output)
        if not word and not beginning and not self._producer.has_orders:
            # Nearly every step.
            return stock
        reads, hopeless = self._consumer.begin(beginning)
        fence = self._producer.take_orders()
        if fence is NO_ORDERS and not reads and not hopeless:
            return stock
        return LeasedMetadata.around(stock, LeaseOrders(fence, reads, hopeless))

    def step_ended(self) -> LeaseStats | None:
        """To be called once at the end of each step. Returns what is to be told of leases, if anything."""
        self._agent.step_ended()
        return self.stats.take()

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        super().update_connector_output(connector_output)
        for request_id in connector_output.finished_recving or ():
            self._consumer.release(request_id)
        report = connector_output.kv_connector_worker_meta
        if report is not None:
            assert isinstance(report, LeaseWorkerReport)
            self._producer.hear_cleared(report.cleared)
            self._producer.hear_heartbeats(report.heartbeats)


def _by_rank(fence: WorkerFence) -> tuple[int, int]:
    return fence.pp_rank, fence.tp_rank
