"""A process group seen through /proc: who is in it, who is the worker, and ending all of it.

Only Linux is served, as by NIXL and vLLM's CPU build.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_SHARED_MEMORY = "/dev/shm/"
_OWN_SEGMENTS = tuple(_SHARED_MEMORY + prefix for prefix in ("psm_", "sem.mp-", "vllm_dist_"))
"""What Python's multiprocessing makes, and only its resource tracker removes, and what vLLM's tensor-parallel workers
make on a CPU. (UCX's segments are its own affair: one engine maps those of the other.)"""


@dataclass(frozen=True)
class Member:
    """A living process: its id, its state as /proc has it, and its title (the command line, which vLLM rewrites)."""

    pid: int
    state: str
    title: str


def group_members(pgid: int) -> list[Member]:
    """The living processes of a group (zombies are not), oldest first as far as ids tell."""
    members = [_member(int(entry.name), pgid) for entry in _PROC.iterdir() if entry.name.isdigit()]
    return sorted((member for member in members if member is not None), key=lambda member: member.pid)


def _member(pid: int, pgid: int) -> Member | None:
    try:
        # Everything after the name in parentheses: state, parent, group, ...
        state, _, group = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[:3]
        title = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Member(pid, state, title) if int(group) == pgid and state != "Z" else None


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
    found: set[Path] = set()
    for member in group_members(pgid):
        try:
            lines = (_PROC / str(member.pid) / "maps").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        names = (line[line.find(_SHARED_MEMORY) :] for line in lines if _SHARED_MEMORY in line)
        found.update(Path(name) for name in names if name.startswith(_OWN_SEGMENTS) and "(deleted)" not in name)
    return found
