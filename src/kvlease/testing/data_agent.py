"""A stand-in for NIXL's agent within one process: a READ is a copy that happens when the test says so."""

import ctypes
from typing import Any

from kvlease.fence import AgentErrors
from kvlease.fence.words import WORD_BYTES


class OwnMemory:
    """The part of a `kvlease.fence.DataAgent` that deals in memory, where a process reads its own: nothing to register.

    A description of memory is the address of its first byte.
    """

    __slots__ = ()

    def get_reg_descs(self, descs: Any, mem_type: str) -> Any:
        assert mem_type == "DRAM"
        return tuple(descs)

    def register_memory(self, reg_list: Any, *, backends: list[str]) -> Any:
        assert backends == []
        return reg_list

    def deregister_memory(self, dereg_list: Any) -> None: ...

    def get_xfer_descs(self, descs: Any, mem_type: str) -> Any:
        assert mem_type == "DRAM"
        [(address, length, device)] = descs
        assert (length, device) == (WORD_BYTES, 0)
        return address


class FakeDisconnectError(Exception):
    pass


class FakeBackendError(Exception):
    pass


FAKE_ERRORS = AgentErrors((FakeDisconnectError, FakeBackendError), FakeDisconnectError)


class FakeRead:
    def __init__(self, local: int, remote: int, agent: str) -> None:
        self.local, self.remote, self.agent = local, remote, agent
        self.state = "INIT"
        self.error: Exception | None = None
        self.releases = 0

    def finish(self, write: bool = True) -> None:
        """Ends the read well; with `write` False it only says so, and writes nothing."""
        if write:
            ctypes.memmove(self.local, self.remote, 8)
        self.state = "DONE"

    def fail(self, error: Exception) -> None:
        """Makes a question about the read raise `error`. Only a disconnection ends it: after others it may land."""
        self.error = error
        if isinstance(error, FakeDisconnectError):
            self.state = "ERR"


class FakeDataAgent(OwnMemory):
    """A stand-in for NIXL's agent. `reads`: all that were ever made, oldest first. `registered`: the memory that is
    registered now. `instant`: a read ends as it is posted. `refuse`, `refuse_transfer`, `refuse_release`: errors that
    the calls of these names raise."""

    def __init__(self, instant: bool = False) -> None:
        self.instant = instant
        self.reads: list[FakeRead] = []
        self.registered: list[Any] = []
        self.refuse: Exception | None = None
        self.refuse_transfer: Exception | None = None
        self.refuse_release: Exception | None = None

    def register_memory(self, reg_list: Any, *, backends: list[str]) -> Any:
        self.registered.append(super().register_memory(reg_list, backends=backends))
        return reg_list

    def deregister_memory(self, dereg_list: Any) -> None:
        self.registered.remove(dereg_list)

    def initialize_xfer(self, operation: str, local_descs: Any, remote_descs: Any, remote_agent: str) -> FakeRead:
        assert operation == "READ"
        if self.refuse:
            raise self.refuse
        active = [read for read in self.reads if read.state == "PROC"]
        assert all(read.local != local_descs for read in active), "two reads under way into one word"
        self.reads.append(FakeRead(local_descs, remote_descs, remote_agent))
        return self.reads[-1]

    def transfer(self, handle: FakeRead) -> str:
        assert handle.state == "INIT"
        if self.refuse_transfer:
            raise self.refuse_transfer
        handle.state = "PROC"
        if self.instant:
            handle.finish()
        return handle.state

    def check_xfer_state(self, handle: FakeRead) -> str:
        assert not handle.releases, "a released handle was asked"
        if handle.error:
            raise handle.error
        return handle.state

    def release_xfer_handle(self, handle: FakeRead) -> None:
        assert not handle.releases, "a handle was released twice"
        assert handle.state in ("INIT", "DONE") or handle.error or self.refuse_transfer, "released while under way"
        handle.releases += 1
        if self.refuse_release:
            raise self.refuse_release
