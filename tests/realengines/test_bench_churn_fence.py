"""The benchmarks of churn and fence run over real NIXL and vLLM's code, and whatever goes wrong stops them."""

import pytest

from kvlease.fence import FenceAddress
from proof.bench.churn.books import BATCH
from proof.bench.churn.meter import ChurnPlan
from proof.bench.churn.nixl import over_nixl
from proof.bench.churn.stock import StockBooks
from proof.bench.core.peers import PeerEnded, PinnedProcess
from proof.bench.fence.consumer import consume
from proof.bench.fence.measure import CONSUMER_CORE, PRODUCER_CORE, measure
from proof.bench.fence.paths import PATHS, WORKERS, ReadPath, settings_of
from proof.bench.fence.producer import produce
from proof.bench.fence.setting import MB, Setting, WorkerAddress

pytestmark = pytest.mark.engine

ONE_WORKER = Setting("shared memory", None, "DRAM", 1)


def test_churn_over_nixl_measures_both_sides() -> None:
    producer, consumer = over_nixl(ChurnPlan(rate=500.0, busy_s=2.2, idle_s=1.2))
    assert producer.leases == consumer.leases > 0
    assert 0 < producer.claims <= producer.leases
    for side in (producer, consumer):
        assert side.own_process
        assert all(0 < window.agent_s < window.process_s for window in side.windows + side.idle)
        assert all(window.leases > 0 for window in side.windows)


def test_stocks_books_take_every_request_to_its_end() -> None:
    books = StockBooks()
    assert books.spend(4 * BATCH) > 0
    assert books.spend(4 * BATCH) > 0


def test_a_notice_that_stock_does_not_hear_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    books = StockBooks()
    monkeypatch.setattr(books.producer, "_get_new_notifs", set)
    with pytest.raises(AssertionError, match="stock let 0 go"):
        books.spend(4 * BATCH)


@pytest.mark.parametrize(
    ("path", "workers"), list(zip((PATHS["host"], PATHS["host-tcp"]), WORKERS, strict=True)), ids=str
)
def test_reads_are_timed_with_and_without_the_fence(path: ReadPath, workers: int) -> None:
    (setting,) = (setting for setting in settings_of(path, gpu=False) if setting.workers == workers)
    found = measure(setting, {1: 4, 2: 2})
    assert {size: len(reads) for size, reads in found.items()} == {1: 4, 2: 2}
    for read in found[1] + found[2]:
        assert 0 < read.fence_s + read.ready_s < read.fenced_s
        assert min(read.alone_s, read.noticed_s) > 0


def test_a_word_that_is_not_armed_stops_the_benchmark(capfd: pytest.CaptureFixture[str]) -> None:
    with PinnedProcess(produce, ONE_WORKER, MB, core=PRODUCER_CORE) as producer:
        addresses = [_with_the_words_beside_its_own(address) for address in producer.hear()]
        with (
            pytest.raises(PeerEnded, match="consume has ended with 1"),
            PinnedProcess(consume, ONE_WORKER, addresses, {1: 1}, core=CONSUMER_CORE) as consumer,
        ):
            consumer.hear()
        producer.tell("end")
    assert "the fence is revoked, it has to be intact" in capfd.readouterr().err


def _with_the_words_beside_its_own(address: WorkerAddress) -> WorkerAddress:
    """The address with the base of its words one word further, none of which is armed."""
    return WorkerAddress(address.metadata, address.base, FenceAddress(address.fence.base + 8, address.fence.slots - 1))


def test_data_that_does_not_arrive_stops_the_benchmark(capfd: pytest.CaptureFixture[str]) -> None:
    """The producer's pages hold zeros, as the consumer's do before they are read."""
    with PinnedProcess(produce, ONE_WORKER, MB, 0, core=PRODUCER_CORE) as producer:
        with (
            pytest.raises(PeerEnded, match="consume has ended with 1"),
            PinnedProcess(consume, ONE_WORKER, producer.hear(), {1: 1}, core=CONSUMER_CORE) as consumer,
        ):
            consumer.hear()
        producer.tell("end")
    assert "not all of the data has arrived" in capfd.readouterr().err
