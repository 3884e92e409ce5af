"""Leases that are over, real engines beside stock: every row of what is promised of blocks that leases own.

Two pairs of engines are up at a time, stock's and kvlease's, and take turns. Three settings are played: a short term,
with late reads; a term in which leases can wait; and a P with two workers, which is told to end at the end.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx

from kvlease.up.model import build_model
from proof.bench.ends.again import again
from proof.bench.ends.calm import calm
from proof.bench.ends.figures import goals, notes, rows
from proof.bench.ends.found import ArmFound, Found
from proof.bench.ends.late import late
from proof.bench.ends.pairs import started_pairs
from proof.bench.ends.waiting import SHUTDOWN_TIMEOUT_S, deaths, stays, waiting
from proof.bench.engines.pair import choose_bench_cores
from proof.bench.frame.figures import Effort, Result
from proof.bench.frame.progress import say
from proof.realengines.cores import Cores
from proof.realengines.router import open_client
from proof.realengines.spec import CONNECTORS

SHORT_TERM_S = 2.0
TERM_S = 6.0


@dataclass(frozen=True)
class EndsAmount:
    """The amount that is measured of each."""

    calm: int
    """Requests one after the other, for each tensor parallelism of P."""
    late: int
    """Rounds of late reads."""
    again: int
    """References that are sent once more, in both ways."""
    deaths: int
    watched_s: float
    """The time for which P's processor time is watched."""


AMOUNTS = {
    Effort.SHORT: EndsAmount(calm=8, late=1, again=2, deaths=1, watched_s=5.0),
    Effort.FULL: EndsAmount(calm=60, late=4, again=10, deaths=5, watched_s=10.0),
}


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on one core, EngineError where an engine fails that was not killed."""
    cores, model = choose_bench_cores(), build_model("llama")
    found: Found = {connector: ArmFound() for connector in CONNECTORS}
    asyncio.run(_play(model, cores, AMOUNTS[effort], found))
    return Result(
        name="ends",
        title="Leases that are over: P's memory, and reads of it",
        rows=rows(found),
        goals=goals(found),
        notes=notes(),
    )


async def _play(model: Path, cores: Cores, amount: EndsAmount, found: Found) -> None:
    for setting in (short_term, longer_term, two_workers):
        async with open_client() as client:
            await setting(client, model, cores, amount, found)


async def short_term(client: httpx.AsyncClient, model: Path, cores: Cores, amount: EndsAmount, found: Found) -> None:
    """A term that is soon over."""
    say(f"ends: engines start, term {SHORT_TERM_S:g} s")
    with started_pairs(client, model, cores, SHORT_TERM_S) as pairs:
        await calm(pairs, found, amount.calm, workers=1)
        await late(pairs, found, amount.late)


async def longer_term(client: httpx.AsyncClient, model: Path, cores: Cores, amount: EndsAmount, found: Found) -> None:
    """A term in which leases wait."""
    say(f"ends: engines start, term {TERM_S:g} s")
    with started_pairs(client, model, cores, TERM_S) as pairs:
        await again(pairs, found, amount.again)
        await waiting(pairs, found, amount.watched_s)
        await deaths(pairs, found, amount.deaths)


async def two_workers(client: httpx.AsyncClient, model: Path, cores: Cores, amount: EndsAmount, found: Found) -> None:
    """P with two workers, which waits for its leases when it is told to end."""
    say(f"ends: engines start, term {TERM_S:g} s, P with two workers")
    drains = ("--shutdown-timeout", str(SHUTDOWN_TIMEOUT_S))
    with started_pairs(client, model, cores, TERM_S, tensor_parallel_size=2, extra_args=drains) as pairs:
        await calm(pairs, found, amount.calm, workers=2)
        await stays(pairs, found)
