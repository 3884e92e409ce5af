"""The benchmarks of single parts run, find what they say they find, and measure vLLM's own code at work.

Nothing depends on a time here: `make bench` takes the figures.
"""

import math
import time
from pathlib import Path

import pytest

from proof.bench.frame.document import read
from proof.bench.frame.figures import Effort
from proof.bench.frame.one import main
from proof.bench.frame.registry import BENCHMARKS

pytestmark = pytest.mark.engine

SIZES = (10, 1_000, 10_000)


@pytest.mark.parametrize("name", ["renewal", "step", "interval", "wire"])
def test_a_benchmark_runs_and_leaves_rows_goals_and_plots(name: str, tmp_path: Path) -> None:
    assert main(name, Effort.SHORT, tmp_path) == 0
    found = read(tmp_path / f"{name}.json")
    assert found.name in BENCHMARKS
    assert len(found.goals) == (3 if name == "step" else 2)
    assert all(goal.met is not None for goal in found.goals)
    assert all(row.ours is not None and math.isfinite(row.ours.median) for row in found.rows)
    compared = [row for row in found.rows if row.stock is not None]
    assert len(compared) >= 3
    assert all(row.ratio is not None and math.isfinite(row.ratio.median) for row in compared)
    assert found.notes
    assert (tmp_path / f"{name}.png").stat().st_size > 0


def test_stock_extends_every_lease_that_a_heartbeat_names() -> None:
    """The call that is timed is vLLM's code doing its work."""
    from proof.bench.core.renewal import stock
    from proof.bench.core.stock import SilentNixl, bare_worker, hearer, held, hold, request_ids

    stock(10).call()
    nixl = SilentNixl()
    worker = bare_worker(nixl)
    ids = request_ids(3)
    assert {len(request_id) for request_id in ids} == {32}
    began = time.perf_counter()
    hold(worker, ids, began)
    nixl.arrived = {"decode": [("HB:" + ",".join(ids[:2])).encode()]}
    hearer(worker)()
    assert [held(worker)[request_id] > began + 19 for request_id in ids] == [True, True, False]


def test_an_idle_step_keeps_what_is_out_and_a_worker_of_stock_looks_at_each() -> None:
    """Both engines hold the blocks; kvlease's worker has no deadline to look at."""
    from proof.bench.core.idle_step import leased_engine, stock_engine
    from proof.bench.core.stock import held, request_ids

    ids = request_ids(50)
    stock, leased = stock_engine(ids), leased_engine(ids)
    for _ in range(3):
        for engine in (stock, leased):
            output = engine.work(engine.build())
            assert not output.finished_sending
            engine.update(output)
        leased.agent.turn()
    assert len(held(stock.worker_half)) == 50
    assert len(held(leased.worker_half)) == 0
    assert leased.leases.step.producer.blocks.held_leases == 50


def test_a_step_that_has_something_to_do_does_it() -> None:
    """The engine that idles in the benchmark works: it gives blocks back, and clears words before others get them."""
    from proof.bench.core.idle_step import BLOCKS_OF_A_REQUEST, lapsed_engine, leased_engine
    from proof.bench.core.stock import request_ids

    ids = request_ids(5)
    assert leased_engine(ids).pool.get_num_free_blocks() == BLOCKS_OF_A_REQUEST
    lapsed = lapsed_engine(ids)
    blocks = lapsed.leases.step.producer.blocks
    assert (blocks.held_leases, blocks.lapsed_leases) == (0, 5)
    assert lapsed.pool.get_num_free_blocks() == 6 * BLOCKS_OF_A_REQUEST
    assert sum(map(bool, map(lapsed.words.word, range(6)))) == 5
    # The blocks that were never used come first.
    lapsed.pool.get_new_blocks(BLOCKS_OF_A_REQUEST + 1)
    assert sum(map(bool, map(lapsed.words.word, range(6)))) == blocks.lapsed_leases == 4
    lapsed.pool.get_new_blocks(lapsed.pool.get_num_free_blocks())
    assert sum(map(bool, map(lapsed.words.word, range(6)))) == blocks.lapsed_leases == 0


def test_stock_beats_for_every_request_of_an_interval() -> None:
    from proof.bench.core import interval
    from proof.bench.core.stock import (
        SilentNixl,
        bare_scheduler,
        bare_worker,
        connect,
        heartbeat_sender,
        make_heartbeat_due,
        request_ids,
    )

    ids = request_ids(20)
    scheduler = bare_scheduler()
    interval.take_on(scheduler, ids)
    nixl = SilentNixl()
    worker = bare_worker(nixl)
    connect(worker, interval.ENGINE, {(0, 0): "a worker of P"})
    make_heartbeat_due(scheduler)
    heartbeat_sender(worker)(scheduler.build_connector_meta(None))
    assert (nixl.messages, nixl.bytes) == (1, len("HB:") + 20 * 33 - 1)


def test_stock_sends_as_often_as_the_larger_side_has_workers() -> None:
    """Heartbeats and notices are counted by vLLM's own handshake and read code, for all pairs of sizes."""
    from proof.bench.wire.measure import TPS, times_stock
    from proof.bench.wire.stock import beats_per_term, notices

    assert beats_per_term() == 6
    assert notices("cmpl-0123456789abcdef-0-01234567", 1, 1).bytes == 34
    assert {(p, d): times_stock(p, d) for p in TPS for d in TPS} == {(p, d): max(p, d) for p in TPS for d in TPS}


def test_what_nixl_adds_to_a_message_is_more_than_its_senders_name() -> None:
    from proof.bench.wire import header as wire_header

    measured = wire_header.measure()
    assert measured is not None
    ours, stock = measured
    assert ours > 24
    assert stock - ours == pytest.approx(36 - 24)


def test_full_goes_beyond_short() -> None:
    from proof.bench.core import interval, renewal, step

    for module in (renewal, step, interval):
        assert module.SIZES[Effort.SHORT] == SIZES
        assert set(SIZES) <= set(module.SIZES[Effort.FULL])
