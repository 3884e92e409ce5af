"""Pairs of real engines for the benchmarks: P on one core, D on another, several pairs that take turns."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from proof.bench.frame.errors import CannotRun, require
from proof.realengines.engine import Engine
from proof.realengines.processes import group_members
from proof.realengines.spec import EngineSpec

CORES_NEEDED = 2
_PACKAGES = ("torch", "vllm", "nixl")


@dataclass(frozen=True)
class Cores:
    """The cores on which the engines run."""

    producer: int
    decoder: int


@dataclass(frozen=True)
class Pair:
    """P and D that use the same connector."""

    producer: Engine
    decoder: Engine

    @property
    def engines(self) -> tuple[Engine, Engine]:
        """P and D, in this order."""
        return self.producer, self.decoder

    def pause(self) -> None:
        """Stops the pair, which takes no processor time at all until it is resumed."""
        for engine in self.engines:
            engine.pause()

    def resume(self) -> None:
        """Lets the pair go on."""
        for engine in self.engines:
            engine.resume()

    def processor_s(self) -> tuple[float, float]:
        """The processor time, in seconds, that all processes of P, and all of D, have taken since they started."""
        return processor_s(self.producer), processor_s(self.decoder)


def choose_cores() -> Cores:
    """A core for P and another for D. Raises CannotRun where they would have to share one, since each would then
    measure how the other starves it (0010), and where vLLM or NIXL is not installed."""
    require(*_PACKAGES)
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES_NEEDED:
        raise CannotRun(
            f"P and D need {CORES_NEEDED} processor cores, this process may use {len(allowed)}: give it more"
        )
    return Cores(producer=allowed[0], decoder=allowed[1])


def processor_s(engine: Engine) -> float:
    """The processor time, in seconds, of an engine's processes, to 10 ms each. Raises EngineError if it is gone."""
    group = os.getpgid(engine.worker_pids()[0])
    taken = [psutil.Process(member.pid).cpu_times() for member in group_members(group)]
    return float(sum(times.user + times.system for times in taken))


@contextmanager
def started(specs: Sequence[EngineSpec]) -> Iterator[list[Engine]]:
    """Engines that serve, in the order of their specs, until it is left. Raises EngineError if one does not start."""
    with ExitStack() as life:
        logs = Path(life.enter_context(TemporaryDirectory(prefix="kvlease-bench-")))
        engines = [life.enter_context(Engine(spec, logs)) for spec in specs]
        for engine in engines:
            engine.wait_ready()
        yield engines
