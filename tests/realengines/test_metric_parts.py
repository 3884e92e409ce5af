"""kvlease's figures on their way through vLLM's own classes, with vLLM imported but no engine running."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from kvlease.agent.loop import LeaseAgent
from kvlease.fence import SharedMemory, Verdict
from kvlease.metrics.catalogue import HISTOGRAMS, METRICS
from kvlease.metrics.metric import Kind
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import resolve
from kvlease.protocol.facts import RenewalAnswered
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport

pytestmark = [pytest.mark.engine, pytest.mark.essential]

ENGINE = {"model_name": "m", "engine": "0"}
FENCE = "fence_read_seconds"
SECONDS = (0.0001, 0.0001, 0.0001, 0.00015, 0.003, 0.5, 60.0)


@pytest.fixture
def metrics() -> Iterator[Any]:
    """kvlease's metrics in vLLM's API server."""
    from prometheus_client import Counter, Gauge, Histogram
    from vllm.v1.metrics.prometheus import unregister_vllm_metrics

    from kvlease.vllm.metrics import LeasePromMetrics

    unregister_vllm_metrics()
    kinds = {kind: kind for kind in (Counter, Gauge, Histogram)}
    config: Any = SimpleNamespace(kv_transfer_config=SimpleNamespace())
    yield LeasePromMetrics(config, kinds, list(ENGINE), {0: list(ENGINE.values())})
    unregister_vllm_metrics()


def value(name: str, **labels: str) -> float | None:
    from prometheus_client import REGISTRY

    found: float | None = REGISTRY.get_sample_value(f"kvlease:{name}", ENGINE | labels)
    return found


def sent(stats: Any) -> Any:
    """The data as it comes to the API server, by way of msgpack; JSON could carry it, too."""
    json.dumps(stats.to_dict())
    return msgspec.msgpack.decode(msgspec.msgpack.encode(stats.to_dict()))


def test_a_histogram_that_went_through_vllm_is_what_prometheus_would_have_counted(metrics: Any) -> None:
    """Two workers and the scheduler tell theirs in several steps; count, buckets and sum are those of all values."""
    from prometheus_client import CollectorRegistry, Histogram
    from prometheus_client.utils import floatToGoString

    from kvlease.vllm.metrics import LeaseStats

    direct = Histogram("direct", "", buckets=HISTOGRAMS[FENCE].buckets, registry=CollectorRegistry())
    times = ObservedTimes()
    for step in range(3):
        told = []
        for _ in range(2):
            worker = LeaseStats()
            for seconds in SECONDS[step:]:
                worker.observe(FENCE, seconds)
                direct.observe(seconds)
            told.append(worker.clone_and_reset())
        times.late(0.02)
        scheduler = LeaseStats()
        scheduler.add("agent_lag_seconds", times.histograms["agent_lag_seconds"].take())
        metrics.observe(sent(told[0].aggregate(told[1]).aggregate(scheduler)))
    (family,) = direct.collect()
    for sample in family.samples:
        part = sample.name.removeprefix("direct")
        if part != "_created":
            assert value(FENCE + part, **sample.labels) == pytest.approx(sample.value), sample
    assert value("agent_lag_seconds_count") == 3
    bound = floatToGoString(0.02)
    assert value("agent_lag_seconds_bucket", le=bound) == 3, "a value on a bound belongs to the bucket below it"
    assert value("agent_lag_seconds_bucket", le=floatToGoString(0.01)) == 0


def test_every_series_is_there_before_anything_has_happened(metrics: Any) -> None:
    assert metrics is not None
    for name, metric in METRICS.items():
        suffix = {Kind.COUNTER: "_total", Kind.GAUGE: "", Kind.HISTOGRAM: "_count"}[metric.kind]
        for label in metric.values or ("",):
            # An engine that has had no request yet is not to look as if its agent were dead.
            expected = int(name == "agent_up")
            assert value(name + suffix, **({metric.label: label} if label else {})) == expected, (name, label)


def test_workers_statistics_are_noted_and_left_as_they_are(agent: LeaseAgent) -> None:
    """vLLM adds to the same object afterwards what the scheduler tells: nothing is counted twice."""
    from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiKVConnectorStats

    from kvlease.vllm.in_scheduler import SchedulerLeases
    from kvlease.vllm.metrics import LeaseStats

    leases = SchedulerLeases(agent, CONFIG, workers=2, groups=1, drains=False, block_bytes=512)
    stats = LeaseStats()
    stats.count("fence_checks", "intact", 2)
    stats.count("refused", "bad_notice")
    stats.observe(FENCE, 0.001)
    before = json.dumps(stats.data)
    leases.note_workers(stats)
    leases.note_workers(MultiKVConnectorStats(data={"LeasedNixlConnector": stats}))
    assert json.dumps(stats.data) == before
    totals, _, histograms = leases.figures.now()
    assert (totals["fence_checks", "intact"], totals["refused", "bad_notice"]) == (4, 2)
    assert sum(count for count, _ in histograms[FENCE].cells()) == 2
    told = leases.stats.take()
    assert told is not None
    assert not {key for key in told.data["kvlease_counts"] if key.startswith("fence_checks")}
    assert leases.figures.block_bytes == 1024


def test_a_fence_read_that_is_given_up_leaves_no_time_to_another_request_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kvlease.vllm import in_worker
    from kvlease.vllm.metrics import LeaseStats

    now, checks = [0.0], [({}, {"r"}), ({}, set()), ({}, {"r"}), ({"r": Verdict.INTACT}, set())]
    monkeypatch.setattr(in_worker, "time", SimpleNamespace(monotonic=lambda: now[0]))
    worker: Any = SimpleNamespace(xfer_stats=LeaseStats())
    step: Any = SimpleNamespace(verify=lambda _: checks.pop(0))
    leases = in_worker.WorkerLeases(worker, step, SharedMemory(1))
    for at in (0.0, 1.0, 100.0, 100.5):
        now[0] = at
        leases.verify({"r"})
    (cell,) = worker.xfer_stats.data["kvlease_histograms"][FENCE].values()
    assert cell == [1, 0.5]


@pytest.fixture
def agent() -> LeaseAgent:
    network = MemoryNetwork()
    return LeaseAgent(CONFIG, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}))


CONFIG = resolve({"kv_lease_duration": 6})


def test_times_are_told_once_and_only_if_there_are_any(agent: LeaseAgent) -> None:
    from kvlease.vllm.in_scheduler import SchedulerLeases

    times = ObservedTimes()
    leases = SchedulerLeases(agent, CONFIG, workers=1, groups=1, drains=False, times=times)

    def told() -> Any:
        leases.stats.hasten()
        stats = leases.stats.take()
        return stats and stats.data["kvlease_histograms"]

    assert told() == {}, "gauges are told, at first"
    times.late(0.05)
    assert told() is None, "that alone is no reason to tell"
    times.hear(RenewalAnswered(1, 0.003))
    assert told() == {"ack_round_trip_seconds": {"3": [1, 0.003]}, "agent_lag_seconds": {"8": [1, 0.05]}}
    assert told() is None


def test_the_fence_is_timed_from_its_posting_to_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    from kvlease.fence import Verdict
    from kvlease.vllm import in_worker
    from kvlease.vllm.metrics import LeaseStats

    clock = iter([1.0, 1.0625, 2.0, 3.0, 3.5])
    monkeypatch.setattr(in_worker, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    verdicts = iter([({"quick": Verdict.INTACT}, {"slow"}), ({}, {"slow"}), ({"slow": Verdict.REVOKED}, set())])
    stats, step = LeaseStats(), SimpleNamespace(verify=lambda _: next(verdicts))
    leases = in_worker.WorkerLeases(SimpleNamespace(xfer_stats=stats), step, None)  # type: ignore[arg-type]
    assert leases.verify({"quick", "slow"}) == (set(), {"slow"})
    assert leases.verify({"slow"}) == (set(), {"slow"})
    assert leases.verify({"slow"}) == ({"slow"}, set())
    added = stats.data["kvlease_histograms"][FENCE]
    assert sorted(added.values()) == [[1, 0.0625], [1, 2.5]]


def test_a_block_has_the_memory_that_vllm_gives_it() -> None:
    """Groups overlay each other in one allocation, whose size every tensor has."""
    from vllm.v1.kv_cache_interface import KVCacheTensor

    from kvlease.vllm.pool import block_bytes

    def tensor(size: int, **more: Any) -> Any:
        return KVCacheTensor(size=size, layers=["a"], layer_stride=1, block_stride=1, **more)

    config: Any = SimpleNamespace(num_blocks=10, kv_cache_tensors=[tensor(4000), tensor(4000, offset=8)])
    assert block_bytes(config) == 400
    config.kv_cache_tensors.append(tensor(99_000, host_resident=True))
    assert block_bytes(config) == 400
    config.kv_cache_tensors = []
    assert block_bytes(config) == 0
