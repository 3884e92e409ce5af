"""The shortest lease that lives ten minutes on two saturated cores without one false expiry, kvlease against stock.

Terms are tried from the shortest up, each with engines of its own: a term that is too short shows it soon.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kvlease.up.model import build_model
from proof.bench.engines.pair import choose_bench_cores, pinned, started
from proof.bench.engines.pauses import Second, launcher, read
from proof.bench.engines.queue import Life, Queue, live
from proof.bench.engines.terms import WHATS, Trial, curves, goals, notes, rows
from proof.bench.frame.figures import Effort, Result
from proof.bench.frame.progress import say
from proof.realengines.cores import Cores
from proof.realengines.spec import Connector, EngineSpec

QUEUE = Queue()
_MAX_AGE_S = 86_400
"""The maximum age of leases here: by default one ends, renewed or not, at twenty times its term."""


@dataclass(frozen=True)
class TermAmount:
    """The time for which a lease has to live, and the terms (s) that are tried in this order until one does."""

    lives_s: float
    terms: dict[Connector, Sequence[float]] = field(default_factory=dict)


AMOUNTS = {
    Effort.SHORT: TermAmount(30.0, {"kvlease": (1.0,), "stock": (6,)}),
    # Stock takes whole seconds; kvlease nothing below 1 s.
    Effort.FULL: TermAmount(600.0, {"kvlease": (1.0, 1.5, 2.0, 3.0, 5.0), "stock": (1, 2, 3, 4, 5, 6, 8, 12)}),
}


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on one core, EngineError where an engine fails, but not for a lease's
    end."""
    cores, model, amount = choose_bench_cores(), build_model("llama"), AMOUNTS[effort]
    trials: dict[Connector, list[Trial]] = {
        connector: _until_one_lives(connector, terms, amount.lives_s, model, cores)
        for connector, terms in amount.terms.items()
    }
    return Result(
        name="short-terms",
        title=f"The shortest lease that lives {amount.lives_s:g} s on two saturated cores",
        rows=rows(trials),
        goals=goals(trials, amount.lives_s),
        curves=curves(trials),
        notes=notes(trials, QUEUE),
    )


def _until_one_lives(
    connector: Connector, terms: Sequence[float], lives_s: float, model: Path, cores: Cores
) -> list[Trial]:
    trials: list[Trial] = []
    for term_s in terms:
        say(f"short-terms: {connector}, term {term_s:g} s, for {lives_s:g} s")
        trials.append(_try(connector, term_s, lives_s, model, cores))
        life = trials[-1].life
        say(f"short-terms: lived {life.lived_s:.0f} s, {life.leases} leases, {life.false_expiries} expired falsely")
        if trials[-1].lives:
            break
    return trials


def _try(connector: Connector, term_s: float, lives_s: float, model: Path, cores: Cores) -> Trial:
    with TemporaryDirectory(prefix="kvlease-probe-") as probes:
        directory = Path(probes)
        with started(_specs(connector, term_s, model, cores, directory)) as (producer, decoder):
            life = asyncio.run(live(connector, producer, decoder, QUEUE, lives_s))
        seconds = {(engine, what): _seconds(directory, engine, what, life) for engine in ("P", "D") for what in WHATS}
    return Trial(connector, term_s, life, seconds)


def _seconds(directory: Path, engine: str, what: str, life: Life) -> list[Second]:
    return read(directory, engine, what, life.began, life.began + life.lived_s)


def _specs(connector: Connector, term_s: float, model: Path, cores: Cores, probes: Path) -> list[EngineSpec]:
    extra: dict[str, float] = {"kv_lease_duration": term_s}
    if connector == "kvlease":
        extra["kv_lease_max_age"] = _MAX_AGE_S

    shared: dict[str, Any] = {
        "model": model,
        "connector": connector,
        "extra_config": extra,
        "max_model_len": QUEUE.max_model_len,
    }
    p: dict[str, Any] = {"name": "P", "launcher": launcher(probes, "P"), "num_blocks": QUEUE.producer_blocks}
    d: dict[str, Any] = {"name": "D", "launcher": launcher(probes, "D"), "num_blocks": QUEUE.decoder_blocks}
    return [
        pinned(cores, "kv_producer", **shared, **p),
        pinned(cores, "kv_consumer", **shared, **d, max_num_seqs=QUEUE.seats),
    ]
