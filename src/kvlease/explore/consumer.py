"""A consumer's engine in the explored world: one worker that reads a lease's blocks one by one from each worker of the
producer, and then the fence words.
"""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from kvlease.explore.request import Request, prompt_of
from kvlease.explore.scale import Bounds
from kvlease.explore.wire import CardPromise, Clock, DataPlane, Desk, new_verifier
from kvlease.fence import FenceWord, Verdict
from kvlease.fence.words import WORD_BYTES
from kvlease.protocol import Endpoint, LeaseCard, LeaseRef
from kvlease.roles.consumer import ConsumerSide
from kvlease.roles.fences import Admission, RemoteFences, Source
from kvlease.roles.reads import LeasedReads

ENDPOINT: Endpoint = ("p", 5600)
ENGINE = "prefill"
_CAPACITY = 8


@dataclass(slots=True)
class Task:
    """A request of a user at this consumer."""

    ref: LeaseRef
    blocks: tuple[int, ...]
    own: int
    """The token of the lease on its own prompt."""
    stage: str = "waiting"
    """waiting: in the scheduler's queue. asking: for the producer's card. reading: blocks. fencing: words."""
    aborted: bool = False
    read: list[int] = field(default_factory=list)
    """By worker of the producer, how many blocks were read."""
    contents: list[int] = field(default_factory=list)


class ConsumerEngine:
    """An input is a tuple that begins with the name of a method here."""

    def __init__(self, incarnation: int, bounds: Bounds, now: float) -> None:
        self.clock = Clock(now)
        self.facts: list[tuple[Any, ...]] = []
        self.desk = Desk(incarnation)
        self.side = ConsumerSide(self.desk, prompt_of)
        self.plane = DataPlane()
        # No read of a word is lost for good here, so the verifier's own deadline is nobody's concern.
        self.reads = LeasedReads(new_verifier(self.plane, _CAPACITY, Clock(0.0)))
        self.fences = RemoteFences(self._fetch)
        self.workers = range(bounds.workers)
        self.tasks: dict[str, Task] = {}
        self.promises: list[CardPromise] = []
        """Of cards that are asked for, oldest first."""
        self._asker = ""

    # -- inputs --------------------------------------------------------------------------------------------------

    def take_on(self, number: int, ref: LeaseRef, blocks: tuple[int, ...], own: int) -> tuple[Any, ...]:
        """The request for prompt `number` comes with a reference; `own` is the token of its own lease."""
        holder, (host, port) = f"r{number}", ENDPOINT
        params = {"do_remote_prefill": True, "kv_lease": ref.to_params(), "remote_host": host, "remote_port": port}
        if self.side.take_on(Request(holder, number, params)):
            self.tasks[holder] = Task(ref, blocks, own, read=[0 for _ in self.workers])
        return self._outcome()

    def begin(self, holder: str, lost: tuple[str, ...]) -> tuple[Any, ...]:
        """The request is scheduled: its blocks are to be read, unless its lease is known to be lost."""
        self.desk.lost = list(lost)
        reads, hopeless = self.side.begin([holder])
        if holder in hopeless:
            self._over(holder)
        else:
            self.reads.begin(reads)
            self._admit(holder)
        return self._outcome()

    def card(self, card: bytes | None) -> tuple[Any, ...]:
        """The card that was asked for first has come, or none."""
        promise = self.promises.pop(0)
        promise.card = None if card is None else LeaseCard.decode(card)
        self._admit(promise.holder)
        return self._outcome()

    def read(self, holder: str, worker: int, content: int | None) -> tuple[Any, ...]:
        """The next block has come from a worker of the producer; None where the producer is dead."""
        task = self.tasks[holder]
        if content is None:
            self._over(holder)
            return self._outcome()
        task.contents.append(content)
        task.read[worker] += 1
        if all(count == len(task.blocks) for count in task.read):
            self._fact("read_ended", holder, task.ref.token)
            task.stage = "fencing"
            self._verify(holder)
        return self._outcome()

    def fence(self, holder: str, index: int, word: int | None) -> tuple[Any, ...]:
        """The fence read that was posted as number `index` of those under way ends."""
        read = self.plane.reads[index]
        if word is None:
            read.state = "LOST"
        else:
            self.reads._verifier._landing[read.local // WORD_BYTES] = word
            read.state = "DONE"
        if holder in self.tasks:
            self._verify(holder)
        else:
            self.reads.verify([])
        return self._outcome()

    def abort(self, holder: str) -> tuple[Any, ...]:
        """The user goes away. A request that is being read keeps its lease until its worker is through."""
        task = self.tasks[holder]
        if task.stage == "waiting":
            self._over(holder)
        else:
            task.aborted = True
        return self._outcome()

    # -- how it is done ------------------------------------------------------------------------------------------

    def _admit(self, holder: str) -> None:
        task = self.tasks.get(holder)
        if task is None:
            return
        ranks = [(0, worker) for worker in self.workers]
        self._asker = holder
        admission = self.fences.admit(holder, Source(ENGINE, ENDPOINT), task.ref, ranks, _come_back)
        self._asker = ""
        match admission:
            case Admission.READ:
                task.stage = "reading"
                self.reads.admit(holder, self._words_of(task.ref))
                self.reads.prepare(holder)
            case Admission.WAIT:
                task.stage = "asking"
            case Admission.REFUSED:
                if self.fences.take_replaced(ENGINE):
                    self.fences.drop(ENGINE)
                self._over(holder)

    def _fetch(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        assert endpoint == ENDPOINT
        self.promises.append(CardPromise(self._asker))
        return cast("Future[LeaseCard]", self.promises[-1])

    def _words_of(self, ref: LeaseRef) -> list[FenceWord]:
        return [
            FenceWord(f"{ref.incarnation:x}.{worker}", self.fences.table(ENGINE, (0, worker)).word(ref.slot), ref.token)
            for worker in self.workers
        ]

    def _verify(self, holder: str) -> None:
        """As `LeasedWorker._pop_done_transfers`: what is neither held back nor failed is used."""
        verdict = self.reads.verify([holder]).get(holder, Verdict.INTACT)
        if verdict is Verdict.INTACT and self.reads.held_back([holder]):
            return
        task = self.tasks[holder]
        if verdict is Verdict.INTACT and not task.aborted:
            self._fact("used", holder, task.own, task.ref.token, tuple(task.contents))
        self._over(holder)

    def _over(self, holder: str) -> None:
        """Read, failed or aborted: the lease is let go of."""
        del self.tasks[holder]
        self.reads.forget(holder)
        self.fences.forget(holder)
        self.side.release(holder)
        self._fact("forgotten", holder)

    def _fact(self, name: str, *arguments: object) -> None:
        self.facts.append((name, self.desk.incarnation, *arguments))

    def _outcome(self) -> tuple[Any, ...]:
        """(facts, what the agent is told)."""
        facts, self.facts = self.facts, []
        said, self.desk.said = self.desk.said, []
        return tuple(facts), tuple(said)


def _come_back() -> None:
    """Nobody calls it: see `CardPromise`."""
