"""Work in several processes, none of which outlives the process that asked for it."""

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

Surroundings = Callable[[], AbstractContextManager[None]]
"""A context that every process works in, such as a planted bug. It is pickled for them."""

Watch = Callable[[str, float], None]
"""Is called, in the process that asked, with what was done last and the share of all that is done, from 0 to 1."""


def in_processes(
    do: Callable[[T], R], things: Iterable[T], jobs: int, within: Surroundings = nullcontext
) -> Iterator[R]:
    """Yields the results of `do` for each thing, as they come; takes more `things` whenever a process is free.

    With one job all is done in this process. With more, things, results and `do` itself are pickled.
    """
    if jobs == 1:
        with within():
            yield from map(do, things)
        return
    with _pool(jobs, within) as pool:
        coming = iter(things)
        under_way: set[Future[R]] = {pool.submit(do, thing) for thing in itertools.islice(coming, 2 * jobs)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            under_way |= {pool.submit(do, thing) for thing in itertools.islice(coming, len(done))}


@contextmanager
def _pool(jobs: int, within: Surroundings) -> Iterator[ProcessPoolExecutor]:
    """A context with fresh processes. It ends them when it is left; after an exception, in the middle of their work."""
    fresh = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(jobs, mp_context=fresh, initializer=_begin, initargs=(within,))
    try:
        yield pool
    except BaseException:
        children = [child for child in multiprocessing.active_children() if child not in others]
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        raise
    pool.shutdown()


_for_life = ExitStack()


def _begin(within: Surroundings) -> None:
    # Only the parent handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _for_life.enter_context(within())


def _end_with_parent() -> None:
    """Ends this process with its parent, since nothing else would: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
