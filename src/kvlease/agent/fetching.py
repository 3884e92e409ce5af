"""Fetching lease cards in threads, so that nobody waits for somebody else's silence.

Whom to ask comes with requests, which clients write: an endpoint may be dead, or made up. So those that served a card
the last time have threads of their own, which the others cannot occupy, and the others wait in a queue that is bounded.
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
"""Threads for endpoints that served a card the last time they were asked."""
OTHER_FETCHERS = 12
"""Threads for all others; a dead endpoint occupies one for as long as a fetch may take."""
MAX_WAITING = 96
"""Endpoints that are asked, or wait to be, beside the proven ones; what comes on top is answered with None at once. The
last of them waits for as many fetches as there are to each thread, 8, which is half a lease of default length."""
MAX_PROVEN = 1024
"""Endpoints that are remembered as proven; what served a card longest ago is forgotten first."""


class ThreadedCards:
    """A `CardSource` over a function that fetches one card and may take its time.

    Questions about one endpoint that is being asked already share its answer.
    """

    def __init__(self, fetch: Callable[[Endpoint], LeaseCard]) -> None:
        """`fetch` raises `CardUnavailable`. It is called in several threads at once."""
        self._fetch = fetch
        self._proven_fetchers = ThreadPoolExecutor(PROVEN_FETCHERS, thread_name_prefix="kvlease-card")
        self._other_fetchers = ThreadPoolExecutor(OTHER_FETCHERS, thread_name_prefix="kvlease-card-new")
        self._lock = threading.Lock()
        self._proven: OrderedDict[Endpoint, None] = OrderedDict()
        self._asked: set[Endpoint] = set()
        self._unproven = 0
        """Of `_asked`, those that are not proven."""
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
        """Every question gets its answer, also where a bug is what came of it."""
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
