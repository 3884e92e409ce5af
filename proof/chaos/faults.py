"""The faults of a schedule: what they do to the engines, and how they are undone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from proof.chaos.outcome import Answered
from proof.chaos.scene import DECODER_NAMES, Scene
from proof.chaos.schedule import ChaosFault
from proof.chaos.traffic import ChaosTraffic
from proof.realengines.engine import Engine
from proof.realengines.network import DIRECTIONS, Direction, Network

T = TypeVar("T")

KEPT_NAME = "chaos-p"
"""The engine id under which P is started again as another incarnation."""
HANGS_S = 3.0
"""The time for which a decode engine's worker hangs before the engine is killed with its clients."""


async def befall(scene: Scene, traffic: ChaosTraffic, fault: ChaosFault) -> list[Answered]:
    """Lets a fault happen and undoes it, whatever happens meanwhile. Returns what P computed during it by itself."""
    decoder = scene.decoders[fault.decoder]
    match fault.kind:
        case "kill-d" | "restart-d":
            await _start_again(scene, traffic, decoder, fault)
        case "kill-p" | "restart-p":
            scene.set_term(fault.next_term_s, KEPT_NAME if fault.keeps_name else None)
            await _start_again(scene, traffic, scene.producer, fault)
        case "stop-d":
            await _undone(decoder.pause, lambda: asyncio.sleep(fault.lasts_s), decoder.resume)
        case "stop-p":
            await _undone(scene.producer.pause, lambda: asyncio.sleep(fault.lasts_s), scene.producer.resume)
        case "stall-d":
            return await _undone(decoder.pause, lambda: _reuse(traffic, fault), decoder.resume)
        case "long-step":
            return await _undone(decoder.pause_worker, lambda: _reuse(traffic, fault), decoder.resume_worker)
        case "abort-all":
            traffic.abort_all()
        case "cut" | "cut-one-way" | "loss" | "slow":
            return await _on_link(_network_of(scene), traffic, fault)
        case _:
            raise AssertionError(f"nobody knows what the fault {fault.kind!r} does")
    return []


async def _start_again(scene: Scene, traffic: ChaosTraffic, engine: Engine, fault: ChaosFault) -> None:
    await scene.count(engine)
    if fault.takes_clients:
        await _leave_orphans(traffic, engine)
    await scene.end(engine, gracefully=fault.kind.startswith("restart"))
    await asyncio.sleep(fault.lasts_s)
    await scene.start(engine)


async def _leave_orphans(traffic: ChaosTraffic, engine: Engine) -> None:
    """Lets the engine's worker hang, so that requests come and are not read; then stops all of it, and all clients go.

    Otherwise the engine would hear of the aborts and drop its leases; and were it killed first, the clients would
    notice and go to the other decode engine, which would take the leases over.
    """
    engine.pause_worker()
    await asyncio.sleep(HANGS_S)
    engine.pause()
    traffic.abort_all()


async def _reuse(traffic: ChaosTraffic, fault: ChaosFault) -> list[Answered]:
    """Waits; then lets P use every block that it has taken back, so that a late read gets another prompt's data."""
    await asyncio.sleep(fault.lasts_s)
    return await traffic.use_free_blocks()


async def _on_link(network: Network, traffic: ChaosTraffic, fault: ChaosFault) -> list[Answered]:
    name = DECODER_NAMES[fault.decoder]

    def harm() -> None:
        if fault.kind == "slow":
            network.slow(name, fault.kbit_per_s)
        else:
            network.lose(name, fault.loss if fault.kind == "loss" else 1.0, _directions(fault))

    return await _undone(harm, lambda: _reuse(traffic, fault), lambda: network.heal(name))


async def _undone(harm: Callable[[], None], meanwhile: Callable[[], Awaitable[T]], undo: Callable[[], None]) -> T:
    try:
        await asyncio.to_thread(harm)
        return await meanwhile()
    finally:
        # No thread does this: it has to happen on an interruption, too.
        undo()


def _directions(fault: ChaosFault) -> Sequence[Direction]:
    return DIRECTIONS if fault.way == "both" else (fault.way,)


def _network_of(scene: Scene) -> Network:
    assert scene.network is not None, "a fault of the network was drawn where there is none"
    return scene.network
