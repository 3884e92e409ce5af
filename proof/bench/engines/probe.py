"""An engine that writes down its own pauses: `python probe.py DIR NAME python -m kvlease.up.serve …`

It is put in front of an engine's command line (`EngineSpec.launcher`), so it must run without the other benchmarks on
the path. It turns into the engine, in the same process, and wraps these functions first:

- the lease agent's turn (kvlease): the time between two of them, and how much of it the thread waited for a core;
- the scheduler's `build_connector_meta`, once a step: the time between two steps;
- the worker's `_send_heartbeats` and `_handle_heartbeat` (stock): how many messages, for how many leases, at what cost.

Each writes a line of JSON into DIR/NAME-<what>.jsonl about once a second: some 10 µs for that, and 2 µs a turn or step.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

EVERY_S = 1.0
# psutil tells what a thread has taken, and not how long it waited for a core.
_SCHEDSTAT = "/proc/thread-self/schedstat"


class Turns:
    """The longest time between two calls of a function that one thread calls again and again, second by second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._schedstat = -1
        self._last = self._line_at = 0.0
        self._waited_ns = 0
        self._begin_line(0.0)

    def _begin_line(self, now: float) -> None:
        self._line_at = now + EVERY_S
        self._turns = self._messages = self._leases = 0
        self._longest = self._waited = self._spent = 0.0

    def begin(self) -> None:
        """Takes note that a call begins; to be called just before it."""
        now = time.monotonic()
        if self._file is None:
            # The files are opened here and not before: engines are forked, and each thread has a schedstat of its own.
            self._file = self._path.open("a", buffering=1)
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY)
            self._last, self._line_at = now, now + EVERY_S
        waited_ns = int(os.pread(self._schedstat, 64, 0).split()[1])
        if now - self._last > self._longest:
            self._longest = now - self._last
            self._waited = (waited_ns - self._waited_ns) / 1e9 if self._waited_ns else 0.0
        self._last, self._waited_ns = now, waited_ns
        self._turns += 1
        if now >= self._line_at:
            self._write(now)

    def count(self, messages: int, leases: int, spent_s: float) -> None:
        """Takes note of what the call did: messages, leases, and the time that it took."""
        self._messages += messages
        self._leases += leases
        self._spent += spent_s

    def _write(self, now: float) -> None:
        assert self._file is not None
        line = {
            "at": now,
            "turns": self._turns,
            "longest_s": self._longest,
            "waited_s": self._waited,
            "thread_s": time.thread_time(),
            "messages": self._messages,
            "leases": self._leases,
            "spent_s": self._spent,
        }
        self._file.write(json.dumps(line) + "\n")
        self._begin_line(now)


def watch_agent(turns: Turns) -> None:
    """Watches the lease agent's turns."""
    from kvlease.agent.loop import LeaseAgent

    turn = LeaseAgent.turn

    def watched(self: LeaseAgent, now: float) -> bool:
        turns.begin()
        return turn(self, now)

    LeaseAgent.turn = watched  # type: ignore[assignment, method-assign]


def watch_steps(turns: Turns) -> None:
    """Watches the engine's steps, as its scheduler begins them."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.base_scheduler import NixlBaseConnectorScheduler

    _watch(NixlBaseConnectorScheduler, "build_connector_meta", turns, lambda _: (0, 0))


def watch_heartbeats(sent: Turns, heard: Turns) -> None:
    """Watches stock's renewals: one message to each remote engine, with the names of all leases."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl.base_worker import NixlBaseConnectorWorker

    def of_metadata(metadata: Any) -> tuple[int, int]:
        engines = metadata.heartbeat_by_engine.values()
        return len(engines), sum(len(engine.req_ids) for engine in engines)

    _watch(NixlBaseConnectorWorker, "_send_heartbeats", sent, of_metadata)
    _watch(NixlBaseConnectorWorker, "_handle_heartbeat", heard, lambda payload: (1, payload.count(",") + 1))


def _watch(owner: Any, name: str, turns: Turns, what: Callable[[Any], tuple[int, int]]) -> None:
    call = getattr(owner, name)

    @functools.wraps(call)
    def watched(self: Any, argument: Any) -> Any:
        turns.begin()
        begun = time.perf_counter()
        result = call(self, argument)
        turns.count(*what(argument), time.perf_counter() - begun)
        return result

    setattr(owner, name, watched)


def main() -> None:
    """Becomes the engine that the rest of the command line asks for."""
    directory, name, _python, _m, module, *arguments = sys.argv[1:]
    if module != "kvlease.up.serve":
        raise SystemExit(f"probe.py cannot become {module}: only kvlease.up.serve")
    sys.argv = [module, *arguments]
    # The path begins elsewhere than in this directory, so that the engine imports nothing from beside this file.
    sys.path[0] = ""

    def turns(what: str) -> Turns:
        return Turns(Path(directory) / f"{name}-{what}.jsonl")

    watch_agent(turns("agent"))
    watch_steps(turns("steps"))
    watch_heartbeats(turns("sent"), turns("heard"))
    from kvlease.up.serve import main as serve

    serve()


if __name__ == "__main__":
    main()
