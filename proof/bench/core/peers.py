"""Processes that take part in a benchmark, each on a core of its own, as engines are."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

_SPAWN = multiprocessing.get_context("spawn")
"""Processes are spawned: forked ones would share NIXL's and UCX's state, which does not survive a fork."""
STOP_S = 30.0


class PeerEnded(RuntimeError):
    """A process of a benchmark ended before it was through."""


def one_way_pipe() -> tuple[Connection, Connection]:
    """A pipe for `PinnedProcess`s, as (the end to receive from, the end to send into)."""
    return _SPAWN.Pipe(duplex=False)


class PinnedProcess:
    """A process that runs `target(connection, *arguments)`, pinned to `core` (counted modulo those that there are).

    `target` is a module's function. `environment` is set in it before anything of NIXL is imported.
    """

    def __init__(
        self,
        target: Callable[..., None],
        *arguments: object,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = target.__name__
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_run, args=(target, theirs, arguments, core, dict(environment or {})), daemon=True
        )
        self._process.start()
        # With this end open here, the end of the process would not end what it sends.
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def tell(self, message: object) -> None:
        self._connection.send(message)

    def hear(self) -> Any:
        """Waits for what the process sends next, and returns it. Raises `PeerEnded`."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(STOP_S)
            raise PeerEnded(
                f"the process that runs {self._name} has ended with {self._process.exitcode}: see its traceback above"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if error is not None:
            self._process.kill()
        self._process.join(STOP_S)
        if self.alive:
            self._process.kill()
            self._process.join()
        self._connection.close()


def _run(
    target: Callable[..., None],
    connection: Connection,
    arguments: tuple[object, ...],
    core: int,
    environment: dict[str, str],
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    os.environ.update({"NIXL_LOG_LEVEL": "FATAL"} | environment)
    target(connection, *arguments)
