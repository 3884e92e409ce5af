"""The consumer's side of the fence, which tells, after a request's data has arrived, whether its leases still live.

It takes one 8-byte READ per producer worker, over the agent that read the data. This is what NIXL 1.5.1 with UCX was
seen to do, and what follows from it here (`tests/realengines/test_nixl_fence.py`):

- `initialize_xfer` for each read costs 4 µs, and 3 µs more than one made of prepared lists, which take 0.2 s to prepare
  for a table of 16,384 slots. So no list is prepared.
- Data that arrives empties the caches: after 16 MB, making a read takes 58 µs instead of 6. Making touches nothing
  remote, so a read is made while the data is on its way, when nobody waits for it, and posted once the data is here.
- **Releasing a read that is under way succeeds, and its data lands later all the same** (over TCP). So does removing
  the peer's agent. A released handle still answers `DONE`. Hence a read is released only when it has ended, and a
  word is used again only when nothing can land in it any more.
- A peer's death ends its reads with `nixlRemoteDisconnectError` within a millisecond. A peer that is stopped, or cut
  off, ends nothing: such a read is lost only by our own clock.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from kvlease.fence.words import MAX_WORD, WORD_BYTES, DataAgent, Words

POISON = 0
"""The content of a landing word before its read: no token is 0, so a read that reports success and writes nothing
cannot look intact."""

SETTLE_US = 200.0
"""The time for which a step waits for the reads it has just posted. A read takes 9 µs over shared memory and 30 µs over
TCP, eight together 70 and 170 (each engine on a core of its own); without the wait, a request would lose tens of
milliseconds until the next step. It is not longer, since a producer without a progress thread answers over TCP only
when it polls."""
LOST_AFTER_S = 10.0
"""The time after which a read that has not ended is lost, and its request fails: far above any read that works, and
about as long as a connection takes to heal. Without it, a request of a stopped or cut-off producer would wait for
ever."""
CAPACITY = 1024
"""The landing words of an engine's worker: more reads at once than any engine runs requests, in one page or two."""

_LEFT_BEHIND: list[Words] = []
"""The landing words of closed verifiers into which a read may still write: their memory is never freed."""


class Verdict(IntEnum):
    """The fence's verdict on a request's data; the greatest verdict of its words counts."""

    INTACT = 0
    """Every word held its token: every byte read was the leases' own."""
    FAILED = 1
    """A word could not be read, so nothing is known: treat the data as lost."""
    REVOKED = 2
    """A word differed: the lease had ended, the data may be another request's."""


# Kept as constants, since Python 3.11 calls a function to look up a member of an enumeration.
_INTACT, _FAILED, _REVOKED = Verdict
_UNKNOWN = "unknown"
"""The state of a read that may still land."""


class FenceWord(NamedTuple):
    """A word to be read: `address` (`FenceAddress.word(slot)`) at NIXL agent `agent`, and the token expected there."""

    agent: str
    address: int
    token: int


@dataclass(frozen=True)
class AgentErrors:
    """The errors of the agent's calls. Each of `all` fails a read, since a fence that cannot be read proves nothing;
    after `disconnected` nothing can land any more."""

    all: tuple[type[Exception], ...]
    disconnected: type[Exception]


@dataclass(slots=True, eq=False)
class _Check:
    """A request, and the words that prove its data."""

    request_id: Hashable
    words: Sequence[FenceWord]
    unread: int
    verdict: Verdict = Verdict.INTACT
    deadline: float = math.inf
    """The time by which its posted reads must have ended."""
    wanted: bool = True
    """False once it is forgotten."""
    staged: "list[_Read]" = field(default_factory=list)
    """The reads of its first words, made and not yet posted."""


@dataclass(slots=True, eq=False)
class _Read:
    """A read into landing word `index`, which is to bring `token`."""

    check: _Check
    token: int
    index: int
    handle: Any


class VerifierSnapshot(NamedTuple):
    """The state of a verifier at a moment."""

    reading: Mapping[int, Hashable | None]
    """The landing words into which a read is under way, each with its request, or None if that was forgotten."""
    checking: frozenset[Hashable]
    """The requests whose fence is being read, or waits for landing words."""
    staged: frozenset[Hashable]
    """The requests whose reads are made and not yet posted."""
    retained: int
    """The number of landing words that are not used again, since something may still land in them."""


class FenceVerifier:
    """Reads fence words and gives verdicts. Used by one thread, the one that uses `agent`.

    Its owner calls `stage` when a request's data is on its way, if there is time. In each step it calls `post` for
    every request whose data has just arrived, then `settle` once; neither blocks for long. Requests beyond the capacity
    wait until landing words are free.

    Attributes: `retained` counts landing words that are not used again, since something may still land in them.
    """

    def __init__(
        self,
        agent: DataAgent,
        landing: Words,
        *,
        errors: AgentErrors,
        lost_after_s: float = LOST_AFTER_S,
        settle_us: float = SETTLE_US,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`agent` is the one that reads the data; `landing` has the words to read into, as many as can be read at once.

        `errors`: the agent's. `clock` gives monotonic seconds. `settle_us`: the most microseconds that `settle` waits.
        """
        self._agent = agent
        self._errors = errors
        self._lost_after_s = lost_after_s
        self._settle_us = settle_us
        self._clock = clock
        self._landing = landing
        capacity = len(landing)
        # Oldest first: a word is unused as long as possible before it is used again.
        self._free = deque(range(capacity))
        self._staged: dict[Hashable, _Check] = {}
        # Data may take long to arrive: staged reads leave half of the words to requests whose data is here.
        self._spared = capacity // 2
        self._checks: dict[Hashable, _Check] = {}
        """The checks that are posted and not complete, by request."""
        self._waiting: deque[tuple[_Check, FenceWord]] = deque()
        self._reads: dict[int, _Read] = {}
        """The reads under way, by landing word."""
        self._verdicts: dict[Hashable, Verdict] = {}
        self.retained = 0

    def stage(self, request_id: Hashable, words: Sequence[FenceWord]) -> None:
        """Makes the reads that `post` will start for this request, as far as there is room; `forget` undoes it.

        Nothing is read before `post`: a word read before all data is here would prove nothing. Raises as `post` does.
        """
        self._discard_staged(request_id)
        self._staged[request_id] = check = self._new_check(request_id, words)
        for word in words:
            if len(self._free) <= self._spared or (read := self._make(check, word)) is None:
                break
            check.staged.append(read)

    def post(self, request_id: Hashable, words: Sequence[FenceWord]) -> None:
        """Starts to read the fence of a request whose data has arrived, from every producer worker that it came from.

        Raises `ValueError` when the request is being checked already, has no words (it would be unfenced), or a token
        is not a non-zero u64.
        """
        # As little as possible is done here: a request waits for it, and the caches hold nothing but its data.
        check = self._staged.get(request_id)
        if check is None or check.words != words:
            self._discard_staged(request_id)
            check = self._new_check(request_id, words)
        else:
            del self._staged[request_id]
        for read in check.staged:
            self._start(read)
        if check.unread:
            self._await(check)

    def _await(self, check: _Check) -> None:
        """Keeps a check that was not complete as soon as it was posted."""
        check.deadline = self._clock() + self._lost_after_s
        self._checks[check.request_id] = check
        if len(check.staged) < len(check.words):
            self._waiting.extend((check, word) for word in check.words[len(check.staged) :])
            self._start_waiting()

    def _new_check(self, request_id: Hashable, words: Sequence[FenceWord]) -> _Check:
        if request_id in self._checks or request_id in self._verdicts:
            raise ValueError(f"the fence of request {request_id!r} is being read already")
        if not words:
            raise ValueError(f"request {request_id!r} has no fence word: that is no fence, not an intact one")
        for word in words:
            if not 0 < word.token <= MAX_WORD:
                raise ValueError(f"a token is a non-zero u64, not {word.token}")
        return _Check(request_id, words, unread=len(words))

    def poll(self) -> dict[Hashable, Verdict]:
        """Returns the verdicts that are new since the last call. Never waits."""
        if self._reads:
            self._look()
        if self._waiting:
            self._start_waiting()
        if self._checks:
            self._give_up_lost()
        verdicts, self._verdicts = self._verdicts, {}
        return verdicts

    def settle(self) -> dict[Hashable, Verdict]:
        """Returns new verdicts like `poll`, but waits up to `settle_us` for what has been posted."""
        verdicts = self.poll()
        if not self._checks:
            return verdicts
        deadline = self._clock() + self._settle_us / 1e6
        while self._checks and self._clock() < deadline:
            verdicts |= self.poll()
        return verdicts

    def forget(self, request_id: Hashable) -> None:
        """Gives no verdict on this request (it was aborted), and unstages it. A no-op when it is not known.

        Its reads under way go on, and their landing words are used again only when these have ended.
        """
        self._discard_staged(request_id)
        self._verdicts.pop(request_id, None)
        if (check := self._checks.pop(request_id, None)) is not None:
            check.wanted = False
            self._waiting = deque(item for item in self._waiting if item[0] is not check)

    def close(self) -> None:
        """Withdraws the landing words from the network, unless a read into them is still under way."""
        for request_id in list(self._staged):
            self._discard_staged(request_id)
        self._checks.clear()
        self._waiting.clear()
        self.poll()
        if self._reads or self.retained:
            _LEFT_BEHIND.append(self._landing)
        else:
            self._landing.deregister()

    def snapshot(self) -> VerifierSnapshot:
        """Returns the state of the verifier now."""
        return VerifierSnapshot(
            {i: read.check.request_id if read.check.wanted else None for i, read in self._reads.items()},
            frozenset(self._checks),
            frozenset(self._staged),
            self.retained,
        )

    def _discard_staged(self, request_id: Hashable) -> None:
        if (check := self._staged.pop(request_id, None)) is not None:
            for read in check.staged:
                # It was never posted, so nothing lands.
                self._release(read, reusable=True)

    def _give_up_lost(self) -> None:
        now = self._clock()
        for check in [check for check in self._checks.values() if now >= check.deadline]:
            self.forget(check.request_id)
            self._verdicts[check.request_id] = max(check.verdict, Verdict.FAILED)

    def _start_waiting(self) -> None:
        while self._waiting and self._free:
            check, word = self._waiting.popleft()
            if (read := self._make(check, word)) is None:
                self._conclude(check, Verdict.FAILED)
            else:
                self._start(read)
        if self._waiting and not self._reads and not any(check.staged for check in self._staged.values()):
            # Every word is retained, so none will ever be free for those that wait.
            while self._waiting:
                self._conclude(self._waiting.popleft()[0], Verdict.FAILED)

    def _make(self, check: _Check, word: FenceWord) -> _Read | None:
        """Returns a read that is not posted; None where it cannot be made. A landing word must be free."""
        index = self._free.popleft()
        self._landing[index] = POISON
        try:
            handle = self._agent.initialize_xfer(
                "READ",
                self._agent.get_xfer_descs([(self._landing.address(index), WORD_BYTES, 0)], "DRAM"),
                self._agent.get_xfer_descs([(word.address, WORD_BYTES, 0)], "DRAM"),
                word.agent,
            )
        except self._errors.all:
            self._free.append(index)
            return None
        return _Read(check, word.token, index, handle)

    def _start(self, read: _Read) -> None:
        state = self._ask(self._agent.transfer, read)
        if state == "PROC":
            self._reads[read.index] = read
        else:
            self._end(read, state)

    def _look(self) -> None:
        for read in list(self._reads.values()):
            state = self._ask(self._agent.check_xfer_state, read)
            if state != "PROC":
                # This comes first: a released handle must never be asked again, whatever fails below.
                del self._reads[read.index]
                self._end(read, state)

    def _ask(self, call: Callable[[Any], str], read: _Read) -> str:
        """Posts `read` or asks NIXL about it, as `call` does. Returns "PROC", "DONE", "ERR", or `_UNKNOWN`."""
        try:
            return call(read.handle)
        except self._errors.disconnected:
            return "ERR"
        except self._errors.all:
            return _UNKNOWN

    def _end(self, read: _Read, state: str) -> None:
        if state != "DONE":
            verdict = _FAILED
        elif self._landing[read.index] == read.token:
            verdict = _INTACT
        else:
            verdict = _REVOKED
        self._release(read, state != _UNKNOWN)
        self._conclude(read.check, verdict)

    def _release(self, read: _Read, reusable: bool) -> None:
        try:
            self._agent.release_xfer_handle(read.handle)
        except self._errors.all:
            reusable = False
        if reusable:
            self._free.append(read.index)
        else:
            self.retained += 1

    def _conclude(self, check: _Check, verdict: Verdict) -> None:
        check.unread -= 1
        if verdict > check.verdict:
            check.verdict = verdict
        if check.unread == 0 and check.wanted:
            self._checks.pop(check.request_id, None)
            self._verdicts[check.request_id] = check.verdict
