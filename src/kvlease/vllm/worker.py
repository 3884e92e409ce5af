"""The connector's half in a worker: keeps the fence words of a producer, and reads those of producers as a consumer.

Thin hooks around vLLM's own pull worker. A leased read carries no completion notice: its producer frees the blocks when
the consumer's agent drops the lease, after every worker of the consumer has verified what it read. So no notice can
overtake the fence read, and siblings, ranks and replicas need no counting on the data path (docs/decisions/0002).
"""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kvlease.fence import AgentErrors, FenceTable, FenceVerifier, FenceWord, Verdict
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, LeaseCard, LeaseRef
from kvlease.protocol.lease import brief
from kvlease.roles.fences import Admission, Rank, RemoteFences, Source
from kvlease.roles.reads import LeasedReads
from kvlease.roles.words import WorkerWords
from kvlease.vllm.compat import (
    KVConnectorTransferResults,
    NixlConnectorMetadata,
    NixlHandshakePayload,
    NixlPullConnectorWorker,
    ReqMeta,
    nixl_package,
)
from kvlease.vllm.metadata import LeasedHandshakePayload, LeasedMetadata, LeaseOrders, LeaseWorkerReport
from kvlease.vllm.metrics import LeaseStats
from kvlease.vllm.notices import arrived, take_notices, without_notices
from kvlease.vllm.settings import lease_config
from kvlease.vllm.side_channel import fetch_card

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

bounded = bounded_logger(__name__)


class LeasedWorker(NixlPullConnectorWorker):
    """`NixlPullConnectorWorker` with fences."""

    def __init__(self, vllm_config: "VllmConfig", engine_id: str, kv_cache_config: "KVCacheConfig") -> None:
        # Before super().__init__, which may fail: its shutdown runs all the same.
        self._table: FenceTable | None = None
        self._verifier: FenceVerifier | None = None
        super().__init__(vllm_config, engine_id, kv_cache_config)
        self._lease_config, _ = lease_config(vllm_config)
        self._lease_extension = self._lease_config.extension_s
        self.xfer_stats = LeaseStats()
        self._fence_slots = self._lease_config.fence_slots or kv_cache_config.num_blocks
        self._words = WorkerWords(None)
        self._reads: LeasedReads
        self._released: set[str] = set()
        """Producer: leased requests whose words were cleared, not yet reported as sent."""
        self._heartbeats: set[str] = set()
        """Producer: leased requests that stock consumers sent heartbeats for, not yet reported."""
        self._fences = RemoteFences(self._fetch_card)
        self._addresses: dict[str, Endpoint] = {}
        """By engine: where vLLM shakes hands with it, or has shaken."""
        self._outlived: set[str] = set()
        """Engines that live on as another incarnation, while something is still read from the old one."""

    # -- an engine starts and ends -------------------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        # First, so that the agent's metadata, taken at the end of it, covers the table.
        self._open_fence()
        super().register_kv_caches(kv_caches)

    def _open_fence(self) -> None:
        # Whatever the role: vLLM lets every engine prefill for others, and a word takes 8 B a block.
        self._table = FenceTable(self.nixl_wrapper, self._fence_slots, self.nixl_backends)
        self._words = WorkerWords(self._table)
        errors = AgentErrors.of_nixl(nixl_package())
        self._verifier = FenceVerifier(self.nixl_wrapper, backends=self.nixl_backends, errors=errors)
        self._reads = LeasedReads(self._verifier)

    def handshake_metadata(self) -> LeasedHandshakePayload:
        """vLLM's handshake of this worker, and where its fence table is."""
        stock: NixlHandshakePayload = self.xfer_handshake_metadata
        base, slots = self._table.address if self._table is not None else (0, 0)
        return LeasedHandshakePayload(stock.compatibility_hash, stock.agent_metadata_bytes, base, slots)

    def shutdown(self) -> None:
        # The words go first: whoever reads while this engine goes down must not find them intact.
        if self._table is not None:
            self._table.close()
        if self._verifier is not None:
            self._verifier.close()
        self._table = self._verifier = None
        super().shutdown()

    # -- producer: words -----------------------------------------------------------------------------------------

    def start_load_kv(self, metadata: NixlConnectorMetadata) -> None:
        # Not by isinstance, which takes long to deny that vLLM's own, an abstract class's, is one of these.
        if type(metadata) is LeasedMetadata:
            self._start_leased(metadata, metadata.kv_lease)
        else:
            super().start_load_kv(metadata)

    def _start_leased(self, metadata: LeasedMetadata, orders: LeaseOrders) -> None:
        self._words.arm(orders.fence)
        self._reads.begin(orders.reads)
        for request_id in orders.hopeless:
            self._recving_metadata[request_id] = metadata.reqs_to_recv.pop(request_id)
            self._fail(request_id)
        super().start_load_kv(metadata)
        # Last: a lease may end in the step in which vLLM's worker first hears that its blocks are to be sent.
        for word in orders.fence.clear:
            # And only then the blocks go (S2).
            if self._words.clear(word.slot):
                self._let_go_of(word.request_id)

    def _let_go_of(self, request_id: str) -> None:
        """Its blocks are to be reported as sent. A no-op for a prefill that was aborted."""
        if request_id in self._reqs_to_process:
            self._reqs_to_process.remove(request_id)
            self.consumer_notification_counts_by_req.pop(request_id, None)
            self.expected_consumer_notifications_by_req.pop(request_id, None)
            self._released.add(request_id)

    def _handle_heartbeat(self, payload: str) -> None:
        """Stock consumers renew by name. What is leased is the lessor's to extend; it hears of it with this step."""
        named = payload.split(",")
        self._heartbeats.update(request_id for request_id in named if request_id in self._words)
        if stock := [request_id for request_id in named if request_id not in self._words]:
            super()._handle_heartbeat(",".join(stock))

    # -- consumer: reads -----------------------------------------------------------------------------------------

    def _read_blocks_for_req(self, req_id: str, meta: ReqMeta) -> None:
        try:
            self._read_any(req_id, meta)
        except Exception as e:  # noqa: BLE001 - numbers that a client wrote go into vLLM's own arithmetic here
            self.xfer_stats.count("refused", "bad_params")
            bounded.exception("kvlease: request %s cannot be read: %r", brief(req_id), e)
            self._fail(req_id)

    def _read_any(self, req_id: str, meta: ReqMeta) -> None:
        engine_id = meta.remote.engine_id
        ref = self._reads.ref(req_id)
        if ref is not None:
            # Since 0.33. A producer with leases never registers its cache anew: sleep mode is refused. And no number
            # that a client wrote has vLLM let go of an engine.
            meta.remote.registration_generation = 0
        if engine_id in self._outlived or self._would_part(engine_id, meta):
            self._fail(req_id)
        elif ref is None:
            super()._read_blocks_for_req(req_id, meta)
        elif engine_id not in self._remote_agents:
            # It comes back here when hands are shaken; nothing is read yet.
            self._background_nixl_handshake(req_id, engine_id, meta)
        elif not self._has_blocks_like_ours(engine_id):
            self.xfer_stats.count("refused", "block_size")
            bounded.warning("kvlease: request %s is not read: %s has blocks of another size", brief(req_id), engine_id)
            self._fail(req_id)
        else:
            self._read_leased(req_id, meta, ref)

    def _has_blocks_like_ours(self, engine_id: str) -> bool:
        """vLLM reads blocks of another size too, and was seen to answer wrongly from them, each time, on the CPU."""
        theirs = self.transfer_topo.get_engine_info(engine_id)
        ours = (self.block_size, self._physical_blocks_per_logical_kv_block)
        return (theirs.remote_block_size, theirs.remote_physical_blocks_per_logical) == ours

    def _would_part(self, engine_id: str, meta: ReqMeta) -> bool:
        """Since 0.33, whether vLLM would let go of an engine on this request's word, in the middle of others' reads."""
        generation = getattr(meta.remote, "registration_generation", 0)
        known = getattr(self, "_remote_registration_generations", {}).get(engine_id, 0)
        return generation > known and engine_id in self._engines_with_inflight_transfers()

    def _read_leased(self, req_id: str, meta: ReqMeta, ref: LeaseRef) -> None:
        remote = meta.remote
        source = Source(remote.engine_id, self._addresses.get(remote.engine_id, (remote.host, remote.port)))
        ranks = self._source_ranks(remote.engine_id)
        match self._fences.admit(req_id, source, ref, ranks, lambda: self._ready_requests.put((req_id, meta))):
            case Admission.READ:
                self._reads.admit(req_id, self._words_of(remote.engine_id, ref))
                with without_notices(self):
                    super()._read_blocks_for_req(req_id, meta)
                self._pending_recv_notifs.pop(req_id, None)
                self._reads.prepare(req_id)
            case Admission.REFUSED:
                self._refuse(req_id, remote.engine_id)
            case Admission.WAIT:
                pass

    def _ensure_handshake(self, engine_id: str, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        """Where vLLM shakes hands with an engine is where its card is. A request's own word, which clients write, could
        have an engine forgotten that others read from."""
        pending = super()._ensure_handshake(engine_id, host, port, *args, **kwargs)
        if pending is not None and engine_id not in self._addresses:
            self._addresses[engine_id] = (host, port)

            def forget_failed(shaken: Future[Any]) -> None:
                if shaken.cancelled() or shaken.exception() is not None:
                    self._addresses.pop(engine_id, None)

            pending.add_done_callback(forget_failed)
        return pending

    def _fetch_card(self, endpoint: Endpoint) -> Future[LeaseCard]:
        """In the thread of vLLM's handshakes."""
        card: Future[LeaseCard] = self._handshake_initiation_executor.submit(fetch_card, endpoint)
        return card

    def _refuse(self, req_id: str, engine_id: str) -> None:
        """No fence, no read: the reference's incarnation does not live at this engine (R22), or cannot be asked."""
        self.xfer_stats.count("fence_checks", "no_fence")
        bounded.warning("kvlease: request %s is not read: its producer incarnation is not at %s", req_id, engine_id)
        if self._fences.take_replaced(engine_id):
            # The engine kept its name over a restart: vLLM must shake hands with it again.
            self._outlived.add(engine_id)
        self._fail(req_id)

    def _fail(self, req_id: str) -> None:
        """Down vLLM's load-failure path, where `kv_load_failure_policy` decides: compute, or answer with an error."""
        self._recv_failures.add(req_id)

    def _pop_done_transfers(self, transfers: dict[str, list[Any]]) -> tuple[set[str], set[str]]:
        """Requests whose data is in are held back until their fence is read; most are through in the same step."""
        if not transfers and not self._reads.checking:
            return set(), set()
        done, failed = super()._pop_done_transfers(transfers)
        if not done and not self._reads.checking:
            return done, failed
        arrived = done - failed - self._recv_failures
        for request_id, verdict in self._reads.verify(arrived).items():
            self.xfer_stats.count("fence_checks", verdict.name.lower())
            if verdict is not Verdict.INTACT:
                failed.add(request_id)
        held_back = self._reads.held_back(arrived)
        for request_id in held_back:
            # Without handles, it comes up as done again in the next step.
            transfers[request_id] = []
        return done - held_back, failed

    def _words_of(self, engine_id: str, ref: LeaseRef) -> list[FenceWord]:
        """The lease's word in each worker of the producer that this worker reads from."""
        return [
            FenceWord(
                self._remote_agents[engine_id][rank], self._fences.table(engine_id, rank).word(ref.slot), ref.token
            )
            for rank in self._source_ranks(engine_id)
        ]

    def _source_ranks(self, engine_id: str) -> list[Rank]:
        """The workers of a producer that this worker reads from."""
        return [(0, tp_rank) for tp_rank in self.tp_mappings[engine_id].all_source_ranks]

    def _get_new_notifs(self) -> set[str]:
        notices, refused = take_notices(self.nixl_wrapper)
        if refused:
            self.xfer_stats.count("refused", "bad_notice", refused)
        if not notices:
            return set()
        with arrived(self, notices):
            sent: set[str] = super()._get_new_notifs()
        return sent

    # -- a step ends ---------------------------------------------------------------------------------------------

    def get_transfer_results(self) -> KVConnectorTransferResults:
        results = super().get_transfer_results()
        for request_id in results.finished_recving:
            self._reads.forget(request_id)
            self._fences.forget(request_id)
        for request_id in results.finished_sending:
            # A stock consumer's notice: the word goes before the report that frees the blocks.
            self._words.clear_request(request_id)
        if self._released:
            results.finished_sending |= self._released
            self._released = set()
        if self._outlived:
            self._let_go_of_outlived()
        return results

    def _let_go_of_outlived(self) -> None:
        """Of the old incarnation, once nothing is read from it: the next read shakes hands with the new one."""
        with self._handshake_lock:
            if self._handshake_futures:
                return
        for engine_id in self._outlived - self._engines_with_inflight_transfers():
            self._outlived.discard(engine_id)
            if engine_id in self._remote_agents:
                self._cleanup_remote_engine(engine_id, log_eviction=False)

    def take_report(self) -> LeaseWorkerReport | None:
        """What the scheduler is to hear of this step; None when there is nothing."""
        if not self._words.cleared and not self._heartbeats:
            return None
        heartbeats, self._heartbeats = self._heartbeats, set()
        return LeaseWorkerReport(self._words.take_cleared(), heartbeats)

    def _cleanup_remote_engine(self, engine_id: str, *, log_eviction: bool = True) -> None:
        super()._cleanup_remote_engine(engine_id, log_eviction=log_eviction)
        self._fences.drop(engine_id)
        self._addresses.pop(engine_id, None)
