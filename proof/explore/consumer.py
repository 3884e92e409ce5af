"""A consumer's engine in the explored world: one worker that reads a lease's blocks one by one from each worker of the
producer, and then the fence words.
"""

from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Admission, Source
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.engine.worker import LeaseWorker
from kvlease.fence import FenceTable, Verdict
from kvlease.fence.words import WORD_BYTES
from kvlease.protocol import Endpoint, LeaseCard, LeaseRef
from kvlease.testing.clock import ManualClock
from kvlease.testing.desk import ListedDesk
from proof.explore.pool import ExploredPool
from proof.explore.scale import CONFIG, Bounds, prompt
from proof.explore.wire import CardPromise, ListedReads, ListedWords, new_verifier

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
    """One of waiting (in the scheduler's queue), asking (for the producer's card), reading (blocks), fencing
    (words)."""
    aborted: bool = False
    read: list[int] = field(default_factory=list)
    """The number of blocks that were read, by worker of the producer."""
    contents: list[int] = field(default_factory=list)


class ConsumerEngine:
    """The engine of one consumer. An input is a tuple that begins with the name of a method here."""

    def __init__(self, incarnation: int, bounds: Bounds, now: float) -> None:
        self.clock = ManualClock(now)
        self.facts: list[tuple[Any, ...]] = []
        self.verdicts: list[tuple[int, Verdict]] = []
        self.desk = ListedDesk(incarnation)
        self.leases = LeaseScheduler(
            self.desk, ProducerSide(CONFIG, self.desk, ExploredPool(0), 0, clock=self.clock), ConsumerSide(self.desk)
        )
        self.plane = ListedReads()
        self.landing = ListedWords(_CAPACITY)
        # Every read of a word ends here, so the verifier's own deadline never matters.
        self.verifier = new_verifier(self.plane, self.landing, ManualClock(0.0))
        self.worker = LeaseWorker(FenceTable(ListedWords(1)), self.verifier, self._fetch)
        self.workers = range(bounds.workers)
        self.tasks: dict[str, Task] = {}
        self.promises: list[CardPromise] = []
        """The promises of cards that are asked for, oldest first."""
        self._asker = ""

    # -- inputs --------------------------------------------------------------------------------------------------

    def take_on(self, number: int, ref: LeaseRef, blocks: tuple[int, ...], own: int) -> tuple[Any, ...]:
        """The request for prompt `number` comes with a reference; `own` is the token of its own lease."""
        holder, as_it_came = f"r{number}", LeaseRef.from_params(ref.to_params())
        if self.leases.consumer.take_on(holder, prompt(number), as_it_came, ENDPOINT):
            self.tasks[holder] = Task(ref, blocks, own, read=[0 for _ in self.workers])
        return self._outcome()

    def begin(self, holder: str, lost: tuple[str, ...]) -> tuple[Any, ...]:
        """The request is scheduled: its blocks are to be read, unless its lease is known to be lost."""
        self.desk.lost = list(lost)
        orders = self.leases.begin_step([holder])
        assert orders is not None
        self.worker.step(orders, _Begin(self, holder))
        return self._outcome()

    def card(self, card: bytes | None) -> tuple[Any, ...]:
        """The card that was asked for first has come, or none."""
        promise = self.promises.pop(0)
        promise.card = None if card is None else LeaseCard.decode(card)
        self.admit(promise.holder)
        return self._outcome()

    def read(self, holder: str, worker: int, content: int | None) -> tuple[Any, ...]:
        """The next block has come from a worker of the producer; None where the producer is dead."""
        task = self.tasks[holder]
        if content is None:
            self.over(holder)
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
            self.landing[read.local // WORD_BYTES] = word
            read.state = "DONE"
        if holder in self.tasks:
            self._verify(holder)
        else:
            self.worker.verify([])
        return self._outcome()

    def abort(self, holder: str) -> tuple[Any, ...]:
        """The user goes away. A request that is being read keeps its lease until its worker is through."""
        task = self.tasks[holder]
        if task.stage == "waiting":
            self.over(holder)
        else:
            task.aborted = True
        return self._outcome()

    # -- how it is done ------------------------------------------------------------------------------------------

    def admit(self, holder: str) -> None:
        """Read the blocks of a request whose handshake is done, wait for a card, or refuse the request."""
        task = self.tasks.get(holder)
        if task is None:
            return
        agents = {(0, worker): f"{task.ref.incarnation:x}.{worker}" for worker in self.workers}
        self._asker = holder
        admission = self.worker.admit(holder, Source(ENGINE, ENDPOINT), agents, partial(self._read, task), _come_back)
        self._asker = ""
        if admission is Admission.WAIT:
            task.stage = "asking"
        elif admission is Admission.REFUSED:
            if self.worker.fences.take_replaced(ENGINE):
                self.worker.fences.drop(ENGINE)
            self.over(holder)

    def _read(self, task: Task) -> None:
        task.stage = "reading"

    def _fetch(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        assert endpoint == ENDPOINT
        self.promises.append(CardPromise(self._asker))
        return cast("Future[LeaseCard]", self.promises[-1])

    def _verify(self, holder: str) -> None:
        """Use what is neither held back nor failed, as `LeasedWorker._pop_done_transfers` does."""
        verdicts, held_back = self.worker.verify([holder])
        if holder in held_back:
            return
        task = self.tasks[holder]
        verdict = verdicts.get(holder, Verdict.INTACT)
        self.verdicts.append((task.ref.token, verdict))
        if verdict is Verdict.INTACT and not task.aborted:
            self._fact("used", holder, task.own, task.ref.token, tuple(task.contents))
        self.over(holder)

    def over(self, holder: str) -> None:
        """End a request that was read, failed or aborted; its lease is let go of."""
        del self.tasks[holder]
        self.worker.end([holder], ())
        self.leases.hear([holder], self.worker.take_report())
        self._fact("forgotten", holder)

    def _fact(self, name: str, *arguments: object) -> None:
        self.facts.append((name, self.desk.incarnation, *arguments))

    def _outcome(self) -> tuple[Any, ...]:
        """Returns (facts, what the agent is told, verdicts on leases)."""
        facts, self.facts = self.facts, []
        said, self.desk.said = self.desk.said, []
        verdicts, self.verdicts = self.verdicts, []
        return tuple(facts), tuple(said), tuple(verdicts)


@dataclass(frozen=True, slots=True)
class _Begin:
    """The worker in the step that begins to read a request (`kvlease.engine.ports.HostWorker`)."""

    engine: ConsumerEngine
    holder: str

    def load(self) -> None:
        self.engine.admit(self.holder)

    def fail(self, request_id: str) -> None:
        self.engine.over(request_id)


def _come_back() -> None:
    """Does nothing, as nobody calls it (see `CardPromise`)."""
