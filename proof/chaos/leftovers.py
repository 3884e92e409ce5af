"""The things that a run has left behind, of which there must be none."""

import asyncio
import time
from pathlib import Path

import httpx
import psutil

from kvlease.metrics.scraped import Metrics
from kvlease.up.processes import mapped
from proof.chaos.outcome import Leftovers
from proof.chaos.scene import MARK, Scene
from proof.realengines.engine import Engine
from proof.realengines.network import NAMESPACES
from proof.realengines.router import completion

SESSIONS_GONE_WITHIN_S = 120.0
"""The time in which all sessions go: twice the 60 s for which an idle one is kept, as engines tell only in steps."""

_NUDGE_EVERY_S = 5.0
_GAUGES = ("kvlease:active_leases", "kvlease:held_blocks", "kvlease:sessions")
_SLOTS, _LAPSED = "kvlease:fence_slots_used", "kvlease:lapsed_leases"
"""A lease that has lapsed keeps its slot until its blocks are reused; no other may."""
_SHARED_MEMORY = Path("/dev/shm")


def shared_memory() -> set[str]:
    """The names of all shared memory there is now."""
    return {entry.name for entry in _SHARED_MEMORY.iterdir()}


async def gauges_at_rest(scene: Scene) -> dict[str, float]:
    """Returns kvlease's gauges of all engines once they are 0, or what they are when they should be.

    An engine tells in its steps, so each is asked to compute something now and then.
    """
    asked = await asyncio.gather(*(asyncio.to_thread(_at_rest, engine) for engine in scene.engines))
    return {name: value for gauges in asked for name, value in gauges.items()}


def _at_rest(engine: Engine) -> dict[str, float]:
    deadline = time.monotonic() + SESSIONS_GONE_WITHIN_S
    while True:
        gauges = _gauges(engine)
        if not any(gauges.values()) or time.monotonic() > deadline:
            return gauges
        time.sleep(_NUDGE_EVERY_S)
        engine.ask(completion("Nothing is left, is it?", max_tokens=2))


def _gauges(engine: Engine) -> dict[str, float]:
    try:
        metrics = engine.metrics()
    except httpx.HTTPError as error:
        return {f"{engine.spec.name}: no metrics ({error!r})": 1.0}
    return named_gauges(engine.spec.name, metrics)


def named_gauges(name: str, metrics: Metrics) -> dict[str, float]:
    """The gauges of an engine that are 0 at rest, by the engine's name and their own."""
    gauges = {f"{name}: {gauge}": metrics.value(gauge) for gauge in _GAUGES}
    gauges[f"{name}: {_SLOTS} but for lapsed leases"] = metrics.value(_SLOTS) - metrics.value(_LAPSED)
    return gauges


def left_behind(
    gauges: dict[str, float], killed: list[str], mark: str, memory_before: set[str], namespaces: list[str]
) -> Leftovers:
    """Finds what there still is when all engines have ended and the network was removed."""
    return Leftovers(
        gauges=gauges,
        processes=[f"process {pid}" for pid in _marked(mark)],
        shared_memory=_unused(shared_memory() - memory_before),
        namespaces=[name for name in namespaces if (NAMESPACES / name).exists()],
        killed=killed,
    )


def _unused(names: set[str]) -> list[str]:
    """The paths of those that no living process has mapped: what is in use is somebody else's on this machine."""
    paths = sorted(str(_SHARED_MEMORY / name) for name in names)
    if not paths:
        return []
    in_use = {path for pid in psutil.pids() for path in mapped(pid)}
    return [path for path in paths if path not in in_use]


def _marked(mark: str) -> list[int]:
    """Processes with this run's mark in their environment."""
    return [pid for pid in psutil.pids() if _environment(pid).get(MARK) == mark]


def _environment(pid: int) -> dict[str, str]:
    """The environment of a process; empty for one that has ended or is somebody else's."""
    try:
        return dict(psutil.Process(pid).environ())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return {}
