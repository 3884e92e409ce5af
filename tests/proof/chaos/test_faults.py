"""Faults reach the engines, which here only write them down, and are undone in any case."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from proof.chaos import faults
from proof.chaos.faults import KEPT_NAME, befall
from proof.chaos.scene import Scene
from proof.chaos.schedule import ChaosFault, FaultKind, Way, draw_schedule
from proof.chaos.traffic import ChaosTraffic

DRAWN = draw_schedule(1, requests=4, faults=1).rounds[0].fault
FAULT = replace(DRAWN, decoder=1, lasts_s=0.01, loss=0.05, takes_clients=False)


class Notebook:
    """A stand-in for an engine, a network, a scene or traffic, which writes down whatever is done to it."""

    def __init__(self, name: str = "", done: list[str] | None = None) -> None:
        self.name = name
        self.done: list[str] = [] if done is None else done

    def __getattr__(self, what: str) -> Callable[..., None]:
        return lambda *given: self.done.append(" ".join(map(str, (self.name, what, *given))).strip())


class StandIn(Notebook):
    """A scene that writes down whatever is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.producer = Notebook("p", self.done)
        self.decoders: Sequence[Notebook] = [Notebook("d1", self.done), Notebook("d2", self.done)]
        self.network = Notebook("", self.done)

    async def count(self, engine: Notebook) -> None:
        """Counts nothing, since no test asks for the counts."""

    async def end(self, engine: Notebook, gracefully: bool) -> None:
        self.done.append(f"{engine.name} {'terminated' if gracefully else 'killed'}")

    async def start(self, engine: Notebook) -> None:
        self.done.append(f"{engine.name} started")


class Fills(Notebook):
    """Traffic that writes down whatever is done to it."""

    async def use_free_blocks(self) -> list[Any]:
        self.done.append("p uses its free blocks")
        return []


def done_by(kind: FaultKind, **drawn: Any) -> list[str]:
    scene = StandIn()
    traffic = Fills(done=scene.done)
    fault = replace(FAULT, kind=kind, **drawn)
    asyncio.run(befall(cast(Scene, scene), cast(ChaosTraffic, traffic), fault))
    return scene.done


@pytest.mark.parametrize(
    ("kind", "done"),
    [
        ("kill-d", ["d2 killed", "d2 started"]),
        ("restart-d", ["d2 terminated", "d2 started"]),
        ("stop-d", ["d2 pause", "d2 resume"]),
        ("stop-p", ["p pause", "p resume"]),
        ("stall-d", ["d2 pause", "p uses its free blocks", "d2 resume"]),
        ("long-step", ["d2 pause_worker", "p uses its free blocks", "d2 resume_worker"]),
        ("abort-all", ["abort_all"]),
        ("cut", ["lose d2 1.0 ('to', 'from')", "p uses its free blocks", "heal d2"]),
        ("loss", ["lose d2 0.05 ('to', 'from')", "p uses its free blocks", "heal d2"]),
        ("slow", [f"slow d2 {FAULT.kbit_per_s}", "p uses its free blocks", "heal d2"]),
    ],
)
def test_a_fault_happens_and_is_undone(kind: FaultKind, done: list[str]) -> None:
    assert done_by(kind) == done


def test_clients_may_die_with_their_decode_engine_which_does_not_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "HANGS_S", 0.0)
    done = done_by("kill-d", takes_clients=True)
    assert done == ["d2 pause_worker", "d2 pause", "abort_all", "d2 killed", "d2 started"]


@pytest.mark.parametrize("way", ["to", "from"])
def test_a_cut_in_one_direction_is_in_that_one(way: Way) -> None:
    assert done_by("cut-one-way", way=way)[0] == f"lose d2 1.0 ('{way}',)"


@pytest.mark.parametrize(("keeps_name", "name"), [(True, KEPT_NAME), (False, None)])
def test_p_starts_again_with_another_term_and_maybe_under_its_name(keeps_name: bool, name: str | None) -> None:
    done = done_by("kill-p", next_term_s=14, keeps_name=keeps_name)
    assert done == [f"set_term 14 {name}", "p killed", "p started"]


@pytest.mark.parametrize(
    ("kind", "undone"), [("stop-d", "d2 resume"), ("long-step", "d2 resume_worker"), ("cut", "heal d2")]
)
def test_whoever_interrupts_a_fault_leaves_it_undone(kind: FaultKind, undone: str) -> None:
    scene = StandIn()
    fault: ChaosFault = replace(FAULT, kind=kind, lasts_s=60.0)

    async def interrupt() -> None:
        under_way = asyncio.create_task(befall(cast(Scene, scene), cast(ChaosTraffic, Fills(done=scene.done)), fault))
        while not scene.done:
            await asyncio.sleep(0.001)
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)

    asyncio.run(interrupt())
    assert scene.done[-1] == undone
