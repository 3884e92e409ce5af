"""The lease's part of an engine's worker: all that is done to words and reads in a step, and its order.

This sequence makes reads safe, and there is no other copy of it: an engine's worker, the simulator and the explorer
run this code (decision 0011):

    arm      the words of the prefills that begin; only then can their tokens leave the engine, at the step's end
    load     the engine's own part; it asks `admit` before it begins to read a leased request
    clear    the words of leases that are over; only then does the scheduler let go of their blocks (S2)
    …        the data of reads arrives; the producer may go on and end the lease at any time
    verify   the fence of what has arrived; until then it is held back (S1)
    end      what was read, and by whom, is reported

A scheduler that shares its workers' memory arms and clears the words itself, and orders nothing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from enum import Enum
from typing import ClassVar

from kvlease.engine.armed import ArmedWords
from kvlease.engine.known_fences import Admission, KnownFences, Rank, Source
from kvlease.engine.orders import LeaseOrders, WorkerReport
from kvlease.engine.ports import HostWorker
from kvlease.engine.reads import LeasedReads
from kvlease.fence import FenceTable, FenceVerifier, FenceWord, Verdict
from kvlease.protocol import Endpoint, LeaseCard
from kvlease.protocol.engine_facts import DataArrived, FenceChecked, ReadBegun, ReadDenied, TellEngine


class StepPart(Enum):
    """The parts of a step; time may pass between two of them."""

    ARM = "arm"
    LOAD = "load"
    CLEAR = "clear"


class LeaseWorker:
    """The lease's part of one of an engine's workers, as producer and as consumer. Used by one thread.

    Attributes: `order`: the order of a step's parts. Load follows arm, in which it is told which requests are leased:
    otherwise these would be read without their lease. Clear follows arm, since one step may order both for a word: the
    other way round it would stay armed over blocks that others get. It comes last, since nobody waits for it.
    """

    order: ClassVar[tuple[StepPart, ...]] = (StepPart.ARM, StepPart.LOAD, StepPart.CLEAR)

    def __init__(
        self,
        table: FenceTable,
        verifier: FenceVerifier,
        fetch: Callable[[Endpoint], Future[LeaseCard]],
        tell: TellEngine | None = None,
    ) -> None:
        """`table`: this worker's fence words. `fetch` begins to fetch a card and does not wait; its future may raise
        `CardUnavailable`. `tell` hears facts."""
        self.table = table
        self.words = ArmedWords(table)
        self.reads = LeasedReads(verifier)
        self.fences = KnownFences(fetch)
        self._verifier = verifier
        self._tell = tell
        self._closed = False
        self._heartbeats: set[str] = set()
        """The producer's requests that stock consumers sent heartbeats for, not yet reported."""
        self._read: Counter[str] = Counter()
        """The producer's requests that stock consumers have read, not yet reported."""
        self._unused: dict[str, str] = {}
        """The requests whose data is not used, with the fence's word on it, not yet reported."""

    def step(self, orders: LeaseOrders, host: HostWorker) -> None:
        """Does all parts of a step at once."""
        for part in self.order:
            self.do(part, orders, host)

    def do(self, part: StepPart, orders: LeaseOrders, host: HostWorker) -> None:
        """Does one part of a step."""
        match part:
            case StepPart.ARM:
                self._arm(orders, host)
            case StepPart.LOAD:
                host.load()
            case StepPart.CLEAR:
                self.words.clear(orders.fence)

    def _arm(self, orders: LeaseOrders, host: HostWorker) -> None:
        self.words.arm(orders.fence)
        self.reads.begin(orders.reads)
        for request_id in orders.unreadable:
            host.fail(request_id)

    def admit(
        self,
        request_id: str,
        source: Source,
        agents: Mapping[Rank, str],
        read: Callable[[], None],
        come_back: Callable[[], None],
    ) -> Admission:
        """Tells whether a leased request may be read, and begins to read it (`read`) if its producer's fence is known.

        `agents`: the data-plane agent of each of the producer's workers that this one reads from. `come_back` is
        called, in any thread, when it makes sense to ask again. After REFUSED the request's load has failed.
        """
        ref = self.reads.ref(request_id)
        assert ref is not None, f"{request_id} is not leased"
        admission = self.fences.admit(request_id, source, ref, agents, come_back)
        if self._tell is not None and admission is not Admission.WAIT:
            begun = admission is Admission.READ
            self._tell((ReadBegun if begun else ReadDenied)(request_id, ref.token))
        if admission is Admission.READ:
            words = [
                FenceWord(agent, self.fences.table(source.engine_id, rank).word(ref.slot), ref.token)
                for rank, agent in agents.items()
            ]
            self.reads.admit(request_id, words)
            read()
            self.reads.stage(request_id)
        elif admission is Admission.REFUSED:
            self._unused[request_id] = "no_fence"
        return admission

    def verify(self, arrived: Collection[str]) -> tuple[dict[str, Verdict], set[str]]:
        """Returns the fence's new verdicts on requests whose data is here, and the requests that wait for theirs.

        Each verdict is returned once. Data of a request that waits must be neither used nor reported.
        """
        if self._tell is not None:
            self._tell_arrived(arrived, self._tell)
        verdicts = self.reads.verify(arrived)
        if self._tell is not None:
            for request_id, verdict in verdicts.items():
                ref = self.reads.ref(request_id)
                if ref is not None:
                    self._tell(FenceChecked(request_id, ref.token, verdict.name.lower()))
        for request_id, verdict in verdicts.items():
            if verdict is not Verdict.INTACT:
                self._unused[request_id] = verdict.name.lower()
        return verdicts, self.reads.held_back(arrived)

    def _tell_arrived(self, arrived: Collection[str], tell: TellEngine) -> None:
        for request_id in sorted(arrived):
            ref = self.reads.ref(request_id)
            if ref is not None and request_id not in self.reads.checking:
                tell(DataArrived(request_id, ref.token))

    def end(self, received: Collection[str], sent: Collection[str]) -> None:
        """The step's report is about to leave, with `received` as read, well or not, and `sent` as read by others.

        The engine must not report `sent` itself: the scheduler has ended those requests when it granted their leases.
        """
        for request_id in received:
            self.reads.forget(request_id)
            self.fences.forget(request_id)
        self._read.update(sent)

    def hear_heartbeat(self, request_id: str) -> None:
        """A stock consumer renews by name."""
        self._heartbeats.add(request_id)

    def take_report(self) -> WorkerReport | None:
        """Returns the report of this step to the scheduler; None when there is nothing to tell."""
        if not self.words.cleared and not self._heartbeats and not self._read and not self._unused:
            return None
        heartbeats, self._heartbeats = self._heartbeats, set()
        read, self._read = self._read, Counter()
        unused, self._unused = self._unused, {}
        return WorkerReport(self.words.take_cleared(), heartbeats, read, unused)

    def close(self) -> None:
        """The engine shuts down: words are cleared first, so that no reader finds them intact.

        Only the first call counts: after it an engine may free what reads under way use.
        """
        if self._closed:
            return
        self._closed = True
        self.table.close()
        self._verifier.close()
