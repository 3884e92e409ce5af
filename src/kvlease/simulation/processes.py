"""Work for several processes, none of which outlives whoever asked for it."""

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
"""What every process works in, such as a planted bug. It is pickled for them."""

Watch = Callable[[str, float], None]
"""Called, in the process that asked, with what was done last and the share of all that is done, from 0 to 1."""


def in_processes(
    do: Callable[[T], R], things: Iterable[T], jobs: int, within: Surroundings = nullcontext
) -> Iterator[R]:
    """What `do` makes of each thing, as it comes; `things` is asked for more as processes are free.

    One job is done in this process. Things, results and `do` itself are pickled where there are more.
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
    """Fresh processes; all of them are gone when it is left, whatever they were doing if that is by an exception."""
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
    # Ctrl-C is the parent's to hear.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _for_life.enter_context(within())


def _end_with_parent() -> None:
    """Nobody tells a pool's process that its parent was killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
