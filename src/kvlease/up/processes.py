"""A process group: who is in it, who is the worker, and ending all of it.

Only Linux is served, as by NIXL and vLLM's CPU build.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_OWN_SEGMENTS = tuple(f"/dev/shm/{prefix}" for prefix in ("psm_", "sem.mp-", "vllm_dist_"))
"""The shared memory that Python's multiprocessing makes, and only its resource tracker removes, and that vLLM's
tensor-parallel workers make on a CPU. (UCX's segments are left alone: one engine maps those of the other.)"""


@dataclass(frozen=True)
class Member:
    """A living process: its id, its state as psutil names it, and its title (the command line, which vLLM rewrites)."""

    pid: int
    state: str
    title: str


def group_members(pgid: int) -> list[Member]:
    """The living processes of a group (zombies are not), oldest first as far as ids tell."""
    return [member for pid in psutil.pids() if (member := _member(pid, pgid)) is not None]


def _member(pid: int, pgid: int) -> Member | None:
    try:
        if os.getpgid(pid) != pgid:
            return None
        process = psutil.Process(pid)
        return Member(pid, process.status(), " ".join(process.cmdline()).strip())
    except (ProcessLookupError, psutil.NoSuchProcess):
        # It has ended, and may be a zombie: that has a group and no command line any more.
        return None


def signal_group(pgid: int, number: signal.Signals) -> bool:
    """Sends a signal to a whole group. False: there is no such group any more."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    return True


def end_group(pgid: int, timeout_s: float = 60.0) -> float:
    """Kills a group, waits until none of it lives, and removes the shared memory that it cannot remove any more.

    Returns when (time.monotonic) the group was killed. Raises TimeoutError if a process survives SIGKILL for
    `timeout_s` (it hangs in the kernel; a busy virtual machine was once seen to take over ten seconds).
    """
    segments = shared_memory(pgid)
    killed = time.monotonic()
    signal_group(pgid, signal.SIGKILL)
    asked_at = killed
    while members := group_members(pgid):
        if asked_at > killed + timeout_s:
            raise TimeoutError(f"still alive {timeout_s:g} s after SIGKILL: {members}")
        time.sleep(0.01)
        asked_at = time.monotonic()
    remove(segments)
    return killed


def remove(segments: set[Path]) -> None:
    """Removes shared memory, if it is still there. Whoever has it mapped keeps it."""
    for segment in segments:
        segment.unlink(missing_ok=True)


def shared_memory(pgid: int) -> set[Path]:
    """The shared memory that a group's processes made and have mapped."""
    found = {path for member in group_members(pgid) for path in mapped(member.pid)}
    return {Path(path) for path in found if path.startswith(_OWN_SEGMENTS)}


def mapped(pid: int) -> set[str]:
    """The paths of the files that a process has mapped; none for one that has ended or is somebody else's."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return set()
    # The path is the sixth field, and may have spaces.
    fields = (line.split(maxsplit=5) for line in lines)
    return {each[5].removesuffix(" (deleted)") for each in fields if len(each) == 6}
