"""An engine that writes down its free memory: `python -m proof.bench.ends.probe DIR NAME python -m
kvlease.up.serve …`

It is put in front of an engine's command line (`EngineSpec.launcher`). It turns into the engine, in the same process,
and wraps two of vLLM's classes first:

- `BlockPool`: a line in DIR/NAME-pool.txt whenever the number of blocks in use has changed. That is the moment from
  which others can be given the blocks, and no step has to tell /metrics of it.
- `Scheduler`: a line in DIR/NAME-steps.txt for each step that computes anything, with its tokens. A prompt that was
  read is one token; one that is computed again is all of them.

A line has the time (time.monotonic) and the number.
"""

import functools
import sys
import time
from pathlib import Path
from typing import Any, TextIO

POOL, STEPS = "pool", "steps"
_CHANGES = ("get_new_blocks", "touch", "free_blocks", "unpin_blocks")
"""The methods of vLLM's `BlockPool` by which blocks come into use and get free."""


class Record:
    """A file with a line for each number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def write(self, number: int) -> None:
        if self._file is None:
            # It is opened here and not before, since engines are forked.
            self._file = self._path.open("a", buffering=1)
        self._file.write(f"{time.monotonic():.6f} {number}\n")


def record_path(directory: Path, name: str, what: str) -> Path:
    """The file in which engine `name` writes down its pool, or its steps."""
    return directory / f"{name}-{what}.txt"


def watch_pool(pool: Any, record: Record) -> None:
    """Writes down the number of blocks in use whenever it has changed. `pool`: vLLM's class."""
    last = 0

    def look(of: Any) -> None:
        nonlocal last
        # The null block is neither free nor in use.
        in_use = of.num_gpu_blocks - of.get_num_free_blocks() - 1
        if in_use != last:
            record.write(in_use)
            last = in_use

    for name in _CHANGES:
        setattr(pool, name, _followed_by(getattr(pool, name), lambda of, _: look(of)))


def watch_steps(scheduler: Any, record: Record) -> None:
    """Writes down the number of tokens of each step that computes any. `scheduler`: vLLM's class."""

    def look(_: Any, output: Any) -> None:
        if output.total_num_scheduled_tokens:
            record.write(output.total_num_scheduled_tokens)

    scheduler.schedule = _followed_by(scheduler.schedule, look)


def _followed_by(call: Any, look: Any) -> Any:
    @functools.wraps(call)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = call(self, *args, **kwargs)
        look(self, result)
        return result

    return watched


def main() -> None:
    """Becomes the engine that the rest of the command line asks for."""
    directory, name, _python, _m, module, *arguments = sys.argv[1:]
    if module != "kvlease.up.serve":
        raise SystemExit(f"the probe cannot become {module}: only kvlease.up.serve")
    sys.argv = [module, *arguments]
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.sched.scheduler import Scheduler

    from kvlease.up.serve import main as serve

    watch_pool(BlockPool, Record(record_path(Path(directory), name, POOL)))
    watch_steps(Scheduler, Record(record_path(Path(directory), name, STEPS)))
    serve()


if __name__ == "__main__":
    main()
