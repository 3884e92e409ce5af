"""One-sided reads between the workers' memories: they take time, see each block at a moment of its own, and may hang.

NIXL was seen to do this: a read of a process that died fails soon; one across a cut link, or of a machine that
vanished, neither ends nor fails; one of a stopped process goes on over shared memory and waits over TCP.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvlease.fence import AgentErrors
from kvlease.fence.words import WORD_BYTES
from kvlease.simulation.chance import Chance
from kvlease.testing.data_agent import OwnMemory
from proof.promises.watched import WatchedTable
from proof.simulate.clock import BoundedAgenda

HANGING_POLL_S = 0.25
DEATH_SHOWS_S = 0.001
DATA_ERRORS = 0.1
"""The share of a fault's probability for a block: a request reads many, and its fence only when all have come."""


class SimDisconnected(Exception):
    """The peer of a read is dead."""


class SimReadError(Exception):
    """A read cannot be made."""


SIM_ERRORS = AgentErrors((SimDisconnected, SimReadError), SimDisconnected)


@dataclass(slots=True)
class Region:
    """The memory of one producer worker: fence words, and for each block the token of the lease it was written for."""

    engine: str
    table: WatchedTable
    contents: list[int | None]
    alive: bool = True
    death_shows: bool = True


class DataPlane:
    """All memories, by the name of the agent that serves them, and the reads between them."""

    def __init__(
        self, agenda: BoundedAgenda, chance: Chance, usual_s: float, can_pass: Callable[[str, str], bool]
    ) -> None:
        """`can_pass` tells whether bytes from one engine's memory reach another one now."""
        self.regions: dict[str, Region] = {}
        self.read_s: dict[str, float] = {}
        """The time that an engine's reads take, in seconds, where it is not the usual one."""
        self.errors: dict[str, float] = {}
        """The probability with which an engine's reads fail."""
        self._usual_s = usual_s
        self._agenda = agenda
        self._chance = chance
        self._can_pass = can_pass

    def read_blocks(
        self, reader: str, agent: str, blocks: Sequence[int], done: Callable[[list[int | None] | None], None]
    ) -> None:
        """Copy these blocks; `done` gets what they held, each at a moment of its own, or None where the read failed."""
        found: list[int | None] = [None] * len(blocks)
        left = len(blocks)
        failed = False

        def saw(index: int, region: Region | None) -> None:
            nonlocal left, failed
            left -= 1
            failed = failed or region is None
            if region is not None:
                found[index] = region.contents[blocks[index]]
            if left == 0:
                done(None if failed else found)

        for index in range(len(blocks)):
            self._touch(reader, agent, partial(saw, index), DATA_ERRORS)

    def read_word(self, reader: str, agent: str, address: int, done: Callable[[int | None], None]) -> None:
        """Copy one word; `done` gets None where the peer is dead. Raises `SimReadError` outside the peer's table."""
        region = self.regions.get(agent)
        if region is None:
            raise SimReadError(f"there is no agent {agent}")
        base, slots = region.table.address
        if not base <= address < base + slots * WORD_BYTES or address % WORD_BYTES:
            raise SimReadError(f"{address:#x} is not in the fence table of {agent}")
        slot = (address - base) // WORD_BYTES
        self._touch(reader, agent, lambda region: done(None if region is None else region.table.word(slot)))

    def _touch(self, reader: str, agent: str, see: Callable[[Region | None], None], errors: float = 1.0) -> None:
        """Look at a memory at some moment of a read that begins now; `errors` is the share of a fault's probability."""
        probability = errors * self.errors.get(reader, 0.0)
        if probability and self._chance.of(f"errors of {reader}").random() < probability:
            self._agenda.after(DEATH_SHOWS_S, lambda: see(None))
            return
        read_s = self.read_s.get(reader, self._usual_s)
        moment_s = read_s * self._chance.of(f"reads of {reader}").random()
        self._agenda.after(moment_s, lambda: self._look(reader, agent, see))

    def _look(self, reader: str, agent: str, see: Callable[[Region | None], None]) -> None:
        region = self.regions.get(agent)
        if region is None or (not region.alive and region.death_shows):
            self._agenda.after(DEATH_SHOWS_S, lambda: see(None))
        elif not region.alive or not self._can_pass(region.engine, reader):
            self._agenda.after(HANGING_POLL_S, lambda: self._look(reader, agent, see))
        else:
            see(region)


class _WordRead:
    """A read of one word that is under way, as a verifier holds it."""

    def __init__(self, local: int, remote: int, agent: str) -> None:
        self.local, self.remote, self.agent = local, remote, agent
        self.state = "INIT"

    def end(self, value: int | None) -> None:
        if value is None:
            self.state = "LOST"
            return
        ctypes.c_uint64.from_address(self.local).value = value
        self.state = "DONE"


class SimDataAgent(OwnMemory):
    """A worker's `kvlease.fence.DataAgent`: reads fence words of other workers over the `DataPlane`."""

    def __init__(self, plane: DataPlane, engine: str) -> None:
        self.alive = True
        self._plane = plane
        self._engine = engine

    def initialize_xfer(self, operation: str, local_descs: Any, remote_descs: Any, remote_agent: str) -> _WordRead:
        assert operation == "READ"
        return _WordRead(local_descs, remote_descs, remote_agent)

    def transfer(self, handle: _WordRead) -> str:
        handle.state = "PROC"
        self._plane.read_word(self._engine, handle.agent, handle.remote, lambda value: self._land(handle, value))
        return handle.state

    def check_xfer_state(self, handle: _WordRead) -> str:
        if handle.state == "LOST":
            raise SimDisconnected(handle.agent)
        return handle.state

    def release_xfer_handle(self, handle: _WordRead) -> None: ...

    def _land(self, handle: _WordRead, value: int | None) -> None:
        # A dead worker has no memory into which the word could be written.
        if self.alive:
            handle.end(value)
