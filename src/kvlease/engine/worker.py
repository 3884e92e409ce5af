"""The lease's part of an engine's worker: what is done to words and reads in the course of a step, and in which order.

This is the sequence that makes reads safe, and there is no other copy of it. An engine's worker and the proofs'
models of one carry it out alike (decision 0011):

    arm      the words of the prefills that begin; only then can their tokens leave the engine, at the step's end
    load     the engine's own part; it asks `admit` before it begins to read a leased request
    clear    the words of leases that are over; only then are their blocks let go of (S2)
    …        the data of reads arrives; the producer may go on and end the lease at any time
    verify   the fence of what has arrived; until then it is held back (S1)
    end      stock readers' blocks: the word first, then the report that frees them
"""

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


class Part(Enum):
    """A part of a step; time may pass between two of them."""

    ARM = "arm"
    LOAD = "load"
    CLEAR = "clear"


class LeaseWorker:
    """Both roles of an engine in one of its workers. Used by one thread.

    Attributes: `order` is the order of a step's parts. Load follows arm, since what is to be read under a lease would
    be read without one. Clear follows load, in which the worker first hears of requests and forgets those that were
    aborted: before it, blocks would be reported that nobody sends.
    """

    order: ClassVar[tuple[Part, ...]] = (Part.ARM, Part.LOAD, Part.CLEAR)

    def __init__(
        self, table: FenceTable, verifier: FenceVerifier, fetch: Callable[[Endpoint], Future[LeaseCard]]
    ) -> None:
        """`table`: this worker's fence words. `fetch` begins to fetch a card and does not wait; its future may raise
        `CardUnavailable`."""
        self.table = table
        self.words = ArmedWords(table)
        self.reads = LeasedReads(verifier)
        self.fences = KnownFences(fetch)
        self._verifier = verifier
        self._closed = False
        self._heartbeats: set[str] = set()
        """Producer: leased requests that stock consumers sent heartbeats for, not yet reported."""

    def step(self, orders: LeaseOrders, host: HostWorker) -> None:
        """A worker's step, all of it at once."""
        for part in self.order:
            self.do(part, orders, host)

    def do(self, part: Part, orders: LeaseOrders, host: HostWorker) -> None:
        """One part of a step."""
        match part:
            case Part.ARM:
                self._arm(orders, host)
            case Part.LOAD:
                host.load()
            case Part.CLEAR:
                self._clear(orders, host)

    def _arm(self, orders: LeaseOrders, host: HostWorker) -> None:
        self.words.arm(orders.fence)
        self.reads.begin(orders.reads)
        for request_id in orders.unreadable:
            host.fail(request_id)

    def _clear(self, orders: LeaseOrders, host: HostWorker) -> None:
        for slot in orders.fence.clear:
            if self.words.clear(slot.index):
                host.let_go(slot.request_id)

    def admit(
        self,
        request_id: str,
        source: Source,
        agents: Mapping[Rank, str],
        read: Callable[[], None],
        come_back: Callable[[], None],
    ) -> Admission:
        """May a leased request be read? Begins to read it (`read`) if its producer's fence is known.

        `agents`: the data-plane agent of each of the producer's workers that this one reads from. `come_back` is
        called, from whatever thread, when it is worth while to ask again. REFUSED: the request's load has failed.
        """
        ref = self.reads.ref(request_id)
        assert ref is not None, f"{request_id} is not leased"
        admission = self.fences.admit(request_id, source, ref, agents, come_back)
        if admission is Admission.READ:
            words = [
                FenceWord(agent, self.fences.table(source.engine_id, rank).word(ref.slot), ref.token)
                for rank, agent in agents.items()
            ]
            self.reads.admit(request_id, words)
            read()
            self.reads.stage(request_id)
        return admission

    def verify(self, arrived: Collection[str]) -> tuple[dict[str, Verdict], set[str]]:
        """What the fence says of requests whose data is in, and those of them that it still has to say it of.

        Each verdict is told once. What is held back must not be used, nor reported, until its verdict is there.
        """
        verdicts = self.reads.verify(arrived)
        return verdicts, self.reads.held_back(arrived)

    def end(self, received: Collection[str], sent: Collection[str]) -> None:
        """Before the step's report leaves: `received` are reported as read, well or not, `sent` as read by others."""
        for request_id in received:
            self.reads.forget(request_id)
            self.fences.forget(request_id)
        for request_id in sent:
            # A stock consumer's notice: the word goes before the report that frees the blocks.
            self.words.clear_request(request_id)

    def hear_heartbeat(self, request_id: str) -> bool:
        """A stock consumer renews by name. False for a request that is not leased: the engine's own mechanism's."""
        if request_id not in self.words:
            return False
        self._heartbeats.add(request_id)
        return True

    def take_report(self) -> WorkerReport | None:
        """What the scheduler is to hear of this step; None when there is nothing."""
        if not self.words.cleared and not self._heartbeats:
            return None
        heartbeats, self._heartbeats = self._heartbeats, set()
        return WorkerReport(self.words.take_cleared(), heartbeats)

    def close(self) -> None:
        """The engine goes down: words first, so that whoever reads now does not find them intact.

        Done once: after it an engine may let go of what reads under way are made of.
        """
        if self._closed:
            return
        self._closed = True
        self.table.close()
        self._verifier.close()
