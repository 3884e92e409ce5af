"""Prefill throughput of P in the minute after D's crash, with its KV memory full: 480 s flat, stock, kvlease."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvlease.up.model import build_model
from proof.bench.engines.crash_report import FLAT, OURS, STOCK, Runs, curves, goals, notes, rows
from proof.bench.engines.crash_scenario import CrashRun, CrashScenario
from proof.bench.engines.failover import crash
from proof.bench.engines.pair import choose_bench_cores, pinned, started
from proof.bench.frame.figures import Effort, Result
from proof.bench.frame.progress import say
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine
from proof.realengines.spec import Connector, EngineSpec

SCENARIO = CrashScenario()
_SHORT = replace(SCENARIO, settle_s=6.0, before_s=8.0, after_s=15.0)
_CONNECTORS: dict[str, Connector] = {FLAT: "stock", STOCK: "stock", OURS: "kvlease"}


@dataclass(frozen=True)
class CrashAmount:
    """The scenario that is played, and the number of crashes with each way to hold blocks."""

    scenario: CrashScenario
    crashes: dict[str, int]


AMOUNTS = {
    Effort.SHORT: CrashAmount(_SHORT, {OURS: 1}),
    # One crash with a flat timeout is enough: nothing happens for eight minutes.
    Effort.FULL: CrashAmount(SCENARIO, {OURS: 3, STOCK: 2, FLAT: 1}),
}


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on one core, EngineError where more fails than the D that is killed."""
    cores, model, amount = choose_bench_cores(), build_model("llama"), AMOUNTS[effort]
    runs: Runs = {arm: _crashes(arm, count, amount.scenario, model, cores) for arm, count in amount.crashes.items()}
    return Result(
        name="crash",
        title="Prefill throughput of P after D's crash, with KV memory full",
        rows=rows(runs),
        goals=goals(runs),
        curves=curves(runs),
        notes=notes(runs, amount.scenario),
    )


def _crashes(arm: str, count: int, scenario: CrashScenario, model: Path, cores: Cores) -> list[CrashRun]:
    runs: list[CrashRun] = []
    with started(_specs(arm, scenario, model, cores)) as (producer, *decoders):
        for number in range(count):
            say(f"crash: {arm}, {number + 1} of {count}")
            if number:
                # The D that took over is the first one now; the one that died comes back as its stand-by.
                decoders.reverse()
                _restart(decoders[1])
            runs.append(asyncio.run(crash(scenario, producer, decoders)))
            back_s = runs[-1].back_after_s
            say(f"crash: P back at its rate {'not at all' if back_s is None else f'after {back_s:.2f} s'}")
    return runs


def _restart(engine: Engine) -> None:
    engine.start()
    engine.wait_ready()


def _specs(arm: str, scenario: CrashScenario, model: Path, cores: Cores) -> Sequence[EngineSpec]:
    duration_s = scenario.flat_s if arm == FLAT else scenario.lease_s

    shared: dict[str, Any] = {
        "model": model,
        "connector": _CONNECTORS[arm],
        # Stock takes whole seconds.
        "extra_config": {"kv_lease_duration": int(duration_s)},
        "max_model_len": scenario.max_model_len,
    }
    p = {"num_blocks": scenario.producer_blocks, "max_num_seqs": 2 * scenario.clients}
    d = {"num_blocks": scenario.decoder_blocks, "max_num_seqs": scenario.seats}
    return [
        pinned(cores, "kv_producer", name="P", **shared, **p),
        pinned(cores, "kv_consumer", name="D1", **shared, **d),
        pinned(cores, "kv_consumer", name="D2", **shared, **d),
    ]
