"""The halves of the connector beside vLLM's own, made as an engine makes them but for a model and a network."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kvlease.agent.loop import LeaseAgent
from kvlease.engine.own_fences import SharedFences
from kvlease.fence import FenceTable, RegisteredWords
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import Fingerprint, LeaseRef, WorkerFence
from kvlease.testing.cards import MemoryCards
from kvlease.testing.data_agent import FakeDataAgent
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from proof.bench.core.idle_step import SHORT_PROMPT
from proof.bench.core.stock import SilentNixl, cache_config, engine_config, furnish
from tests.waiting import wait_until

LAG = "agent_lag_seconds"
pytestmark = [pytest.mark.engine, pytest.mark.essential]


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lease agents get a transport in memory instead of a network."""
    from kvlease.vllm import scheduler

    def open_agent(
        _: Any, config: Any, engine_id: str, times: ObservedTimes, incarnation: int, _watch: None
    ) -> LeaseAgent:
        return LeaseAgent(
            config,
            engine_id,
            lambda own: MemoryTransport(MemoryNetwork(), own),
            MemoryCards({}),
            tell=times.hear,
            late=times.late,
            incarnation=incarnation,
        )

    monkeypatch.setattr(scheduler, "open_agent", open_agent)


def config() -> Any:
    """vLLM's configuration of a plain engine."""
    plain = engine_config()
    plain.model_config = SimpleNamespace(use_mla=False, has_inner_state=False, served_model_name="model")
    plain.observability_config = SimpleNamespace(otlp_traces_endpoint=None)
    plain.cache_config.mamba_cache_mode = "none"
    vars(plain.parallel_config).update(world_size=1, prefill_context_parallel_size=1)
    plain.shutdown_timeout = 0
    vars(plain.kv_transfer_config).update(
        engine_id="engine", kv_role="kv_producer", kv_connector="NixlConnector", kv_connector_extra_config={}
    )
    return plain


@pytest.fixture
def scheduler(in_memory: None) -> Iterator[Any]:
    """kvlease's scheduler half of an engine with one worker and room for eight leases."""
    from kvlease.vllm.scheduler import LeasedScheduler

    del in_memory

    class Half(LeasedScheduler):
        def __init__(self) -> None:
            super().__init__(config(), "engine", cache_config())
            self.leases = self._lease
            self.pool = block_pool()
            self.leases.bind(self.pool)
            self.leases.open(
                [WorkerFence(0, 0, 4096, 8)], SharedFences([FenceTable(RegisteredWords(FakeDataAgent(), 8))])
            )
            self.deadlines, self.withdrawn = self._reqs_need_send, self._reqs_not_processed

        @property
        def to_tell(self) -> set[str]:
            return set(self._reqs_need_recv)

    half = Half()
    yield half
    half.shutdown()


def block_pool() -> Any:
    """vLLM's pool of a plain engine, with 31 blocks beside the null block."""
    from vllm.v1.core.block_pool import BlockPool

    return BlockPool(num_gpu_blocks=32, enable_caching=True, hash_block_size=16)


def prefilled(scheduler: Any, request_id: str, output: str | None = None) -> tuple[bool, dict[str, Any]]:
    """The answer to a request that was prefilled for another engine: whether vLLM is to hold its blocks, its params.

    The request's own reference to its blocks is given back, as vLLM does when it ends.
    """
    from vllm.v1.request import RequestStatus

    kind = None if output is None else SimpleNamespace(output_kind=SimpleNamespace(name=output))
    request = SimpleNamespace(
        request_id=request_id,
        kv_transfer_params={"do_remote_decode": True},
        abort_immediately=False,
        status=RequestStatus.FINISHED_LENGTH_CAPPED,
        num_computed_tokens=1,
        sampling_params=kind,
        **SHORT_PROMPT,
    )
    scheduler.on_new_request(request)
    scheduler.update_state_after_alloc(request, None, 0)
    blocks = scheduler.pool.get_new_blocks(1)
    held, offer = scheduler.request_finished(request, ([block.block_id for block in blocks],))
    scheduler.pool.free_blocks(blocks)
    return held, offer


def test_a_leased_request_ends_in_vllm_and_its_blocks_are_the_leases(scheduler: Any) -> None:
    """A request that vLLM held had the engine step without pause, and cost its worker a look in every step."""
    held, offer = prefilled(scheduler, "r")
    assert not held
    assert scheduler.pool.get_num_free_blocks() == 30
    assert offer["do_remote_prefill"]
    assert "kv_lease" in offer
    assert scheduler.deadlines == {}


def test_a_prompt_of_a_list_that_nobody_is_told_of_is_answered_as_any_without_a_lease(scheduler: Any) -> None:
    """R35: a prompt of a list whose reference nobody gets has no lease, and vLLM has its blocks back at once."""
    _, first = prefilled(scheduler, "cmpl-1-0-0a1b2c3d", "FINAL_ONLY")
    _, second = prefilled(scheduler, "cmpl-1-1-0a1b2c3d", "FINAL_ONLY")
    assert "kv_lease" in first
    assert "kv_lease" not in second
    assert (second["do_remote_prefill"], second["remote_block_ids"], second["remote_num_tokens"]) == (False, [[]], 0)
    assert second.keys() == first.keys() - {"kv_lease"}
    assert scheduler.deadlines == {}
    assert scheduler.withdrawn == {"cmpl-1-1-0a1b2c3d"}
    assert scheduler.leases.step.producer.blocks.held_leases == 1
    assert scheduler.pool.get_num_free_blocks() == 30


def test_without_a_free_slot_nothing_is_offered_and_nothing_is_held(scheduler: Any) -> None:
    answers = [prefilled(scheduler, f"r{number}") for number in range(9)]
    assert [offer["do_remote_prefill"] for _, offer in answers] == [True] * 8 + [False]
    assert scheduler.pool.get_num_free_blocks() == 31 - 8
    *_, (_, last) = answers
    assert last["do_remote_prefill"] is False
    assert scheduler.withdrawn == {"r8"}
    assert scheduler.deadlines == {}


@pytest.mark.usefixtures("in_memory")
def test_a_scheduler_half_keeps_one_attribute_on_vllms() -> None:
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorScheduler

    from kvlease.vllm.scheduler import LeasedScheduler

    stock = NixlPullConnectorScheduler(config(), "engine", cache_config())
    leased = LeasedScheduler(config(), "engine", cache_config())
    try:
        assert vars(leased).keys() - vars(stock).keys() == {"_lease"}
        assert vars(stock).keys() <= vars(leased).keys()
    finally:
        leased.shutdown()


@pytest.fixture
def worker_kinds(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """vLLM's worker half and kvlease's, which are made without a model and a network."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnectorWorker

    from kvlease.vllm.worker import LeasedWorker

    def made(self: Any, vllm_config: Any, engine_id: str, kv_cache_config: Any) -> None:
        furnish(self, SilentNixl())
        self.vllm_config, self.engine_id, self.kv_cache_config = vllm_config, engine_id, kv_cache_config

    base = NixlPullConnectorWorker.__mro__[1]
    monkeypatch.setattr(base, "__init__", made)
    monkeypatch.setattr(base, "register_kv_caches", lambda *_: None)
    return NixlPullConnectorWorker, LeasedWorker


def test_what_some_of_a_stock_consumers_ranks_have_said_is_forgotten_with_the_request(worker_kinds: Any) -> None:
    """R12: a stock D that dies between two ranks' notices leaves no count behind, nor does a client that sends one."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import NixlConnectorMetadata

    worker = worker_kinds[1](config(), "engine", cache_config())
    worker.register_kv_caches({})
    worker.consumer_notification_counts_by_req["r"] = 1
    worker.expected_consumer_notifications_by_req["r"] = 2
    metadata = NixlConnectorMetadata()
    metadata.reqs_not_processed = {"r"}
    worker.start_load_kv(metadata)
    assert not worker.consumer_notification_counts_by_req
    assert not worker.expected_consumer_notifications_by_req


def test_a_worker_half_keeps_one_attribute_on_vllms(worker_kinds: Any) -> None:
    """kvlease keeps a single attribute on vLLM's worker half from the start of an engine to the end of a step."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import NixlConnectorMetadata

    stock, leased = (kind(config(), "engine", cache_config()) for kind in worker_kinds)
    assert vars(leased).keys() == vars(stock).keys()
    for worker in (stock, leased):
        worker.register_kv_caches({})
        worker.start_load_kv(NixlConnectorMetadata())
        worker.get_transfer_results()
    leased.take_report()
    assert vars(leased).keys() - vars(stock).keys() == {"_lease"}


@pytest.mark.usefixtures("in_memory")
def test_the_connector_keeps_nothing_on_vllms() -> None:
    from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector

    from kvlease.vllm.connector import LeasedNixlConnector

    stock, leased = (
        kind(config(), KVConnectorRole.SCHEDULER, cache_config()) for kind in (NixlPullConnector, LeasedNixlConnector)
    )
    try:
        assert vars(leased).keys() == vars(stock).keys()
    finally:
        leased.shutdown()


@pytest.mark.parametrize(("asked", "told"), [({}, 1), ({"kv_lease_on_reject": "return"}, 0)])
@pytest.mark.parametrize("leased", [True, False])
def test_vllm_tells_a_refused_requests_producer_itself_only_of_stock_prefills(
    scheduler: Any, asked: dict[str, Any], told: int, leased: bool
) -> None:
    """vLLM lets go of a refused request's prefill by a request that it aborts at once; the lease is the agent's."""
    from vllm.v1.request import RequestStatus

    _, offer = prefilled(scheduler, "p")
    params = {name: value for name, value in (offer | asked).items() if leased or name != "kv_lease"}
    request = SimpleNamespace(
        request_id="r",
        kv_transfer_params=params,
        abort_immediately=True,
        status=RequestStatus.FINISHED_ABORTED,
        num_computed_tokens=0,
        trace_headers=None,
        **SHORT_PROMPT,
    )
    scheduler.on_new_request(request)
    assert scheduler.request_finished(request, ([],)) == (False, None)
    assert scheduler.to_tell == (set() if leased else {"r"})
    scheduler.leases.agent.turn(time.monotonic())
    assert scheduler.leases.agent.report().producers == int(leased and told)


def test_what_is_over_is_free_before_the_next_request_takes_blocks(scheduler: Any) -> None:
    """L1: vLLM asks for matches elsewhere before it takes blocks, and whether blocks come free before it preempts."""
    _, offer = prefilled(scheduler, "r")
    _, other = prefilled(scheduler, "s")
    producer = scheduler.leases.step.producer
    assert not scheduler.has_pending_block_frees()
    for reference in (offer, other):
        scheduler.leases.agent.release(int(reference["kv_lease"]["token"], 16))
    scheduler.leases.agent.turn(time.monotonic())
    assert producer.blocks.held_leases == 2, "nothing happens in another thread than the scheduler's"
    assert scheduler.has_pending_push_work()
    assert scheduler.has_pending_block_frees()
    assert (producer.blocks.held_leases, producer.blocks.lapsed_leases) == (0, 2)
    assert scheduler.pool.get_num_free_blocks() == 31


def test_a_reset_ends_leases_and_leaves_them_while_requests_run(scheduler: Any) -> None:
    """S1: vLLM resets its prefix cache only where no request uses a block; then nothing may be read any more."""
    prefilled(scheduler, "r")
    running = scheduler.pool.get_new_blocks(2)
    assert not scheduler.pool.reset_prefix_cache()
    assert scheduler.leases.step.producer.blocks.held_leases == 1
    scheduler.pool.free_blocks(running)
    assert scheduler.pool.reset_prefix_cache()
    assert len(scheduler.leases.step.producer.slots) == 0
    assert scheduler.leases.step.producer.counts["ends.reset"] == 1


def test_a_setting_that_cannot_be_is_refused_with_where_it_stands() -> None:
    from kvlease.errors import ConfigError
    from kvlease.vllm.scheduler import LeasedScheduler

    wrong = config()
    wrong.kv_transfer_config.kv_connector_extra_config = {"kv_lease_duration": 0}
    said = r"^in kv_connector_extra_config, kv_lease_duration is 0: .*\{\"kv_lease_duration\": 30\}$"
    with pytest.raises(ConfigError, match=said):
        LeasedScheduler(wrong, "engine", cache_config())


def test_what_workers_tell_of_a_failed_load_is_in_the_figures(scheduler: Any) -> None:
    """vLLM names a request whose load has failed among those that were received, and hands on the workers' figures."""
    from vllm.v1.outputs import KVConnectorOutput

    from kvlease.vllm.metrics import LeaseStats

    prompt, stats = Fingerprint(tokens=64, digest=7), LeaseStats()
    stats.count("fence_checks", "failed")
    assert scheduler.leases.step.consumer.take_on("r", prompt, LeaseRef(9, 1, 0, 1000, prompt), ("p", 1))
    scheduler.update_connector_output(
        KVConnectorOutput(finished_recving={"r"}, failed_recving={"r"}, kv_connector_stats=stats)
    )
    totals, _, _ = scheduler.leases.figures.now()
    assert totals["wasted_prefill_tokens", "failed"] == 64
    assert totals["fence_checks", "failed"] == 1


def test_the_agents_thread_fills_the_times_that_a_step_tells(scheduler: Any) -> None:
    scheduler.leases.agent.ask(lambda peer: peer.incarnation).result(5)
    wait_until(lambda: sum(count for count, _ in scheduler.leases.figures.times.histograms[LAG].cells()) > 2)
    assert scheduler.step_ended().data["kvlease_histograms"][LAG], "it comes along with the first gauges"
