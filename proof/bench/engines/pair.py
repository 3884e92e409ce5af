"""Pairs of real engines for the benchmarks: P on one core, D on another, several pairs that take turns."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from kvlease.up.processes import group_members
from proof.bench.frame.errors import CannotRun, require
from proof.realengines.cores import Cores, choose_cores
from proof.realengines.engine import Engine, EngineError
from proof.realengines.spec import EngineSpec, Role

_PACKAGES = ("torch", "vllm", "nixl")


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


def choose_bench_cores() -> Cores:
    """Chooses a core for P and another for D. Raises CannotRun where there are not two, and where vLLM or NIXL is not
    installed."""
    require(*_PACKAGES)
    try:
        return choose_cores()
    except EngineError as e:
        raise CannotRun(str(e)) from e


def pinned(cores: Cores, role: Role, **settings: Any) -> EngineSpec:
    """The spec of an engine on the core of its role. It keeps nothing of a prompt for the next one."""
    core = cores.producer if role == "kv_producer" else cores.decoder
    return EngineSpec(role=role, cores=(core,), prefix_caching=False, **settings)


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
