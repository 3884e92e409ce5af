"""The pauses that engines wrote down of themselves (`probe.py`), read and summed up."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True)
class Second:
    """About a second of a function that is called again and again."""

    at: float
    """The end of this second, by time.monotonic, which is the same in all processes of a machine."""
    turns: int
    longest_s: float
    """The longest time between two calls."""
    waited_s: float
    """The part of that in which the thread was ready and had no core."""
    thread_s: float
    """The processor time of the thread since its start."""
    messages: int
    leases: int
    spent_s: float
    """The time that the calls took, together."""


@dataclass(frozen=True)
class Activity:
    """A function over a longer time."""

    longest_s: float
    waited_s: float
    """The part of the longest pause that was a wait for a core; the rest: Python's lock, another process, or sleep."""
    per_s: float
    """Calls per second."""
    messages_per_s: float
    leases_per_s: float
    spent_share: float
    """The share of a core that the calls took."""
    thread_share: float
    """The share of a core that the thread that makes them took."""


def launcher(directory: Path, name: str) -> tuple[str, ...]:
    """The `EngineSpec.launcher` of an engine that writes its pauses into `directory`, under this name."""
    return sys.executable, str(PROBE), str(directory), name


def read(directory: Path, name: str, what: str, since: float, until: float) -> list[Second]:
    """The seconds that ended within that time (time.monotonic); empty when the function was never called."""
    path = directory / f"{name}-{what}.jsonl"
    if not path.exists():
        return []
    # The last line may be half written.
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    seconds = [Second(**json.loads(line)) for line in lines]
    return [second for second in seconds if since <= second.at <= until]


def sum_up(seconds: Sequence[Second]) -> Activity | None:
    """Sums seconds up; None for fewer than two of them, since rates need a beginning and an end."""
    if len(seconds) < 2:
        return None
    # The time begins with the end of the first one, which counts what was before.
    first, rest = seconds[0], seconds[1:]
    lasted_s = rest[-1].at - first.at
    longest = max(rest, key=lambda second: second.longest_s)
    return Activity(
        longest_s=longest.longest_s,
        waited_s=longest.waited_s,
        per_s=sum(second.turns for second in rest) / lasted_s,
        messages_per_s=sum(second.messages for second in rest) / lasted_s,
        leases_per_s=sum(second.leases for second in rest) / lasted_s,
        spent_share=sum(second.spent_s for second in rest) / lasted_s,
        thread_share=(rest[-1].thread_s - first.thread_s) / lasted_s,
    )
