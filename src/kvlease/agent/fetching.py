"""Lease cards fetched in threads, so that an endpoint that does not answer delays no other.

The endpoints come with requests, which clients write: one may be dead, or made up. So those that served a card the last
time have threads of their own, which the others cannot occupy, and the others wait in a bounded queue.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from kvlease.errors import CardUnavailable
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, LeaseCard

bounded = bounded_logger(__name__)

PROVEN_FETCHERS = 4
"""The threads for endpoints that served a card the last time they were asked."""
OTHER_FETCHERS = 12
"""The threads for all other endpoints; a dead one occupies a thread for as long as a fetch may take."""
MAX_WAITING = 96
"""The most endpoints that are asked or wait for it, proven ones apart; a question beyond it is answered with None at
once. The last in the queue waits for 8 fetches, its share of each thread: half a lease of default length."""
MAX_PROVEN = 1024
"""The most endpoints that are remembered as proven; the one that served a card longest ago is forgotten first."""


class ThreadedCards:
    """A `CardSource` over a function that fetches one card and may block.

    Questions about an endpoint that is being asked already share its answer.
    """

    def __init__(self, fetch: Callable[[Endpoint], LeaseCard]) -> None:
        """`fetch` may raise `CardUnavailable`. It is called in several threads at once."""
        self._fetch = fetch
        self._proven_fetchers = ThreadPoolExecutor(PROVEN_FETCHERS, thread_name_prefix="kvlease-card")
        self._other_fetchers = ThreadPoolExecutor(OTHER_FETCHERS, thread_name_prefix="kvlease-card-new")
        self._lock = threading.Lock()
        self._proven: OrderedDict[Endpoint, None] = OrderedDict()
        self._asked: set[Endpoint] = set()
        self._unproven = 0
        """The number of endpoints in `_asked` that are not proven."""
        self._answers: deque[tuple[Endpoint, LeaseCard | None]] = deque()

    def ask(self, endpoint: Endpoint) -> None:
        with self._lock:
            if endpoint in self._asked:
                return
            proven = endpoint in self._proven
            if not proven and self._unproven >= MAX_WAITING:
                self._answers.append((endpoint, None))
                return
            self._asked.add(endpoint)
            self._unproven += not proven
        fetchers = self._proven_fetchers if proven else self._other_fetchers
        fetched = fetchers.submit(self._fetch, endpoint)
        fetched.add_done_callback(lambda done: self._answer(endpoint, proven, done))

    def _answer(self, endpoint: Endpoint, proven: bool, fetched: "Future[LeaseCard]") -> None:
        """Answers a question, with None where the fetch failed, even by a bug."""
        if fetched.cancelled():
            return
        error = fetched.exception()
        with self._lock:
            self._asked.discard(endpoint)
            self._unproven -= not proven
            self._proven.pop(endpoint, None)
            if error is None:
                self._proven[endpoint] = None
            if len(self._proven) > MAX_PROVEN:
                self._proven.popitem(last=False)
        if isinstance(error, CardUnavailable):
            bounded.warning("kvlease: %s", error)
        elif error is not None:
            bounded.error("kvlease: fetching the lease card of %s:%d failed", *endpoint, exc_info=error)
        self._answers.append((endpoint, fetched.result() if error is None else None))

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def close(self) -> None:
        for fetchers in (self._proven_fetchers, self._other_fetchers):
            fetchers.shutdown(wait=False, cancel_futures=True)
