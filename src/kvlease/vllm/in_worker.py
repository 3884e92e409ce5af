"""vLLM's worker, its reads and its notices, as a host of the lease's part of an engine.

The hooks in `kvlease.vllm.worker` call it. A leased read carries no completion notice: its producer gives the blocks
back when the consumer's agent drops the lease, after every worker of the consumer has verified what it read. So no
notice can overtake the fence read, and siblings, ranks and replicas need no counting on the data path
(docs/decisions/0002).
"""

import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvlease.agent.nixl import errors_of
from kvlease.engine.known_fences import Admission, Source
from kvlease.engine.worker import LeaseWorker
from kvlease.errors import brief
from kvlease.events.recorder import FactRecorder
from kvlease.fence import CAPACITY, FenceTable, FenceVerifier, RegisteredWords, SharedMemory, Verdict
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, LeaseCard
from kvlease.vllm.compat import NixlPullConnectorWorker, ReqMeta, nixl_package
from kvlease.vllm.metadata import LeasedMetadata
from kvlease.vllm.notices import without_notices
from kvlease.vllm.side_channel import fetch_card

bounded = bounded_logger(__name__)


def open_leases(worker: Any, slots: int, watch: FactRecorder | None = None) -> "WorkerLeases":
    """Makes the leases of `worker`, vLLM's `NixlPullConnectorWorker`, with a fence that its NIXL agent registers.

    `slots`: the words of its fence table, 8 B each; every engine has one, since any engine of vLLM's may prefill.
    `watch` hears facts.
    """
    agent, backends = worker.nixl_wrapper, worker.nixl_backends
    memory = SharedMemory(slots)
    table = FenceTable(RegisteredWords(agent, slots, backends, memory=memory.map))
    verifier = FenceVerifier(agent, RegisteredWords(agent, CAPACITY, backends), errors=errors_of(nixl_package()))
    tell = None if watch is None else watch.hear
    return WorkerLeases(worker, LeaseWorker(table, verifier, partial(_fetch_card, worker), tell), memory, watch)


def _fetch_card(worker: Any, endpoint: Endpoint) -> Future[LeaseCard]:
    """Begins to fetch a card in the thread of vLLM's handshakes."""
    card: Future[LeaseCard] = worker._handshake_initiation_executor.submit(fetch_card, endpoint)
    return card


class WorkerLeases:
    """The leases of one engine, in one of its workers. Used by the worker's thread.

    Attributes: `step`: the lease's part of a step. `memory`: that of the fence's words, which the scheduler maps.
    """

    def __init__(self, worker: Any, step: LeaseWorker, memory: SharedMemory, watch: FactRecorder | None = None) -> None:
        """`worker`: vLLM's, a `NixlPullConnectorWorker`. `watch` hears facts, and is closed at the end."""
        self.step = step
        self.memory = memory
        self._worker = worker
        self._watch = watch
        self._addresses: dict[str, Endpoint] = {}
        """The side channel at which vLLM shakes hands with each engine, or has done so."""
        self._outlived: set[str] = set()
        """The engines that are another incarnation now, while something is still read from the old one."""
        self._posted_at: dict[str, float] = {}
        """The time at which a fence read was posted that lasts longer than its step, by request."""

    # -- a step --------------------------------------------------------------------------------------------------

    def begin(self, metadata: LeasedMetadata) -> None:
        """Does a step in which something is to be done about leases."""
        self.step.step(metadata.kv_lease, _Step(self, self._worker, metadata))

    def fail(self, request_id: str) -> None:
        """Reports a failed load to vLLM, whose `kv_load_failure_policy` decides: compute, or answer with an error."""
        self._worker._recv_failures.add(request_id)

    def hear_heartbeats(self, payload: str) -> str:
        """Takes stock consumers' heartbeats for what is prefilled here, which the lessor extends; returns the others,
        vLLM's."""
        others = []
        for named in payload.split(","):
            if named in self._worker._reqs_to_process:
                self.step.hear_heartbeat(named)
            else:
                others.append(named)
        return ",".join(others)

    def verify(self, arrived: set[str]) -> tuple[set[str], set[str]]:
        """Splits off, from requests whose data is here, those not to be used, and those whose fence is being read."""
        began, posted_at = time.monotonic(), self._posted_at
        verdicts, held_back = self.step.verify(arrived)
        if verdicts:
            ended, stats = time.monotonic(), self._worker.xfer_stats
            for name, verdict in verdicts.items():
                stats.count("fence_checks", verdict.name.lower())
                stats.observe("fence_read_seconds", ended - posted_at.get(name, began))
        # A request that failed meanwhile is not among them any more: another one of its name begins anew.
        self._posted_at = {name: posted_at.get(name, began) for name in held_back}
        return {name for name, verdict in verdicts.items() if verdict is not Verdict.INTACT}, held_back

    def end(self, received: Collection[str], sent: set[str]) -> None:
        """Ends a step: vLLM reports `received`, read well or not, but not `sent`, which stock consumers have read: a
        request ends when its lease is granted, and vLLM's scheduler does not know it any more."""
        if received or sent:
            self.step.end(received, sent)
            sent.clear()
        if self._outlived:
            self._let_go_of_outlived()

    def close(self) -> None:
        """The engine shuts down. The words are cleared first: a reader must not find them intact meanwhile."""
        self.step.close()
        self.memory.close()
        if self._watch is not None:
            self._watch.close()

    # -- a read --------------------------------------------------------------------------------------------------

    def read(self, req_id: str, meta: ReqMeta) -> None:
        """Begins to read the blocks of a request, leased or not, if it may be read."""
        try:
            self._read(req_id, meta)
        except Exception as e:  # noqa: BLE001 - numbers that a client wrote go into vLLM's own arithmetic here
            self._worker.xfer_stats.count("refused", "bad_params")
            bounded.exception("kvlease: request %s cannot be read: %r", brief(req_id), e)
            self.fail(req_id)

    def _read(self, req_id: str, meta: ReqMeta) -> None:
        worker, engine_id = self._worker, meta.remote.engine_id
        leased = self.step.reads.ref(req_id) is not None
        if leased:
            # vLLM has this field since 0.33. A producer with leases never registers its cache anew, since sleep mode is
            # refused; and no number that a client wrote may make vLLM forget an engine.
            meta.remote.registration_generation = 0
        if engine_id in self._outlived or self._would_part(engine_id, meta):
            self.fail(req_id)
        elif not leased:
            NixlPullConnectorWorker._read_blocks_for_req(worker, req_id, meta)
        elif engine_id not in worker._remote_agents:
            # vLLM calls `read` again after the handshake; nothing is read yet.
            worker._background_nixl_handshake(req_id, engine_id, meta)
        elif not self._has_blocks_like_ours(engine_id):
            worker.xfer_stats.count("refused", "block_size")
            bounded.warning("kvlease: request %s is not read: %s has blocks of another size", brief(req_id), engine_id)
            self.fail(req_id)
        else:
            self._read_leased(req_id, meta)

    def _read_leased(self, req_id: str, meta: ReqMeta) -> None:
        worker, remote = self._worker, meta.remote
        source = Source(remote.engine_id, self._addresses.get(remote.engine_id, (remote.host, remote.port)))
        # These are the producer's workers that this worker reads from.
        ranks = [(0, tp_rank) for tp_rank in worker.tp_mappings[remote.engine_id].all_source_ranks]
        agents = {rank: worker._remote_agents[remote.engine_id][rank] for rank in ranks}
        read, come_back = partial(self._read_blocks, req_id, meta), partial(worker._ready_requests.put, (req_id, meta))
        if self.step.admit(req_id, source, agents, read, come_back) is Admission.REFUSED:
            self._refuse(req_id, remote.engine_id)

    def _read_blocks(self, req_id: str, meta: ReqMeta) -> None:
        with without_notices(self._worker):
            NixlPullConnectorWorker._read_blocks_for_req(self._worker, req_id, meta)
        self._worker._pending_recv_notifs.pop(req_id, None)

    def _refuse(self, req_id: str, engine_id: str) -> None:
        """Fails a read without a fence: the reference's incarnation is not at this engine (R22), or cannot be asked."""
        self._worker.xfer_stats.count("fence_checks", "no_fence")
        bounded.warning("kvlease: request %s is not read: its producer incarnation is not at %s", req_id, engine_id)
        if self.step.fences.take_replaced(engine_id):
            # The engine was restarted under its old name: vLLM must shake hands with it again.
            self._outlived.add(engine_id)
        self.fail(req_id)

    def _has_blocks_like_ours(self, engine_id: str) -> bool:
        """Tells whether an engine's blocks have our size; from others, vLLM was seen to answer wrongly on the CPU."""
        worker = self._worker
        theirs = worker.transfer_topo.get_engine_info(engine_id)
        ours = (worker.block_size, worker._physical_blocks_per_logical_kv_block)
        return bool((theirs.remote_block_size, theirs.remote_physical_blocks_per_logical) == ours)

    def _would_part(self, engine_id: str, meta: ReqMeta) -> bool:
        """Tells whether this request would make vLLM (since 0.33) forget an engine while others read from it."""
        generation = getattr(meta.remote, "registration_generation", 0)
        known = getattr(self._worker, "_remote_registration_generations", {}).get(engine_id, 0)
        return generation > known and engine_id in self._worker._engines_with_inflight_transfers()

    # -- other engines -------------------------------------------------------------------------------------------

    def shake_hands(self, engine_id: str, host: str, port: int, shaking: Future[Any] | None) -> None:
        """vLLM shakes hands with an engine at this side channel, or has done so (None): its card is there.

        An endpoint from a request, which clients write, could have an engine forgotten that others read from.
        """
        if shaking is None or engine_id in self._addresses:
            return
        self._addresses[engine_id] = (host, port)

        def forget_failed(shaken: Future[Any]) -> None:
            if shaken.cancelled() or shaken.exception() is not None:
                self._addresses.pop(engine_id, None)

        shaking.add_done_callback(forget_failed)

    def forget_engine(self, engine_id: str) -> None:
        """vLLM has forgotten this engine."""
        self.step.fences.drop(engine_id)
        self._addresses.pop(engine_id, None)

    def _let_go_of_outlived(self) -> None:
        """Has vLLM forget old incarnations that nothing is read from: the next read shakes hands with the new one."""
        worker = self._worker
        with worker._handshake_lock:
            if worker._handshake_futures:
                return
        idle: Iterable[str] = self._outlived - worker._engines_with_inflight_transfers()
        for engine_id in idle:
            self._outlived.discard(engine_id)
            if engine_id in worker._remote_agents:
                worker._cleanup_remote_engine(engine_id, log_eviction=False)


@dataclass(frozen=True, slots=True)
class _Step:
    """The worker in one step (`kvlease.engine.ports.HostWorker`)."""

    leases: WorkerLeases
    worker: Any
    metadata: LeasedMetadata

    def load(self) -> None:
        NixlPullConnectorWorker.start_load_kv(self.worker, self.metadata)

    def fail(self, request_id: str) -> None:
        self.worker._recving_metadata[request_id] = self.metadata.reqs_to_recv.pop(request_id)
        self.leases.fail(request_id)
