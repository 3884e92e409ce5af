"""The common part of flat terms and of vLLM's lease: notices of completion, and reads that nobody checks.

It follows vLLM 0.32 (`pull_worker` and `base_worker` of its `nixl`): the notice comes with the data read, one from each
worker of the consumer; a request that ends on the consumer unread sends it with an empty read. The producer's workers
hear notices, and look for expired leases, once they have launched a step on their device
(`_get_kv_connector_output`); its scheduler hears of both, and frees the blocks, as that step ends. The data of any read
is taken for what was asked for.
"""

from collections import deque

from kvlease.fleet.context import FleetContext
from kvlease.fleet.leasing import HoldingEngine, LeasingEngine, ReadingEngine, ReadVerdict
from kvlease.fleet.records import FleetLease, FleetRequest
from kvlease.protocol import Cause

ID_BYTES = 32
"""The size of a request id; with a comma after it, that makes the 33 B a lease that were measured."""


class NoticeLeasing:
    """Holds blocks for one term after the grant: `Leasing` for flat terms, and the base of vLLM's lease."""

    def __init__(self, context: FleetContext, term_s: float) -> None:
        self._fleet = context.fleet
        self._agenda = context.agenda
        self._books = context.books
        self._producers: dict[int, HoldingEngine] = {}
        self._term_s = term_s
        self._first_terms: deque[tuple[float, FleetLease]] = deque()
        """The ends of first terms with their leases, in the order of the grants, which is also that of time."""

    def started(self, engine: LeasingEngine) -> None:
        if engine.side == "producer":
            self._producers[engine.index] = engine

    # -- on the producer ---------------------------------------------------------------------------------------------

    def granted(self, lease: FleetLease) -> None:
        lease.expires = self._agenda.now + self._term_s
        self._first_terms.append((lease.expires, lease))
        if len(self._first_terms) == 1:
            self._agenda.at(lease.expires, self._look, None)

    def _look(self, _: object) -> None:
        """Ends leases whose first term is over. One event serves all of them, since most were read long ago."""
        agenda, terms = self._agenda, self._first_terms
        while terms and (terms[0][1].freed or terms[0][0] <= agenda.now):
            self._due(terms.popleft()[1])
        if terms:
            agenda.at(terms[0][0], self._look, None)

    def _due(self, lease: FleetLease) -> None:
        """Has the workers look at a lease whose deadline has passed, or looks again when it has."""
        if lease.freed:
            return
        agenda, producer = self._agenda, self._producers[lease.producer]
        if lease.expires > agenda.now:
            agenda.at(lease.expires, self._due, lease)
        elif producer.stalled_until > agenda.now:
            # The step that follows the stall hears what arrived meanwhile before it looks at deadlines.
            agenda.at(producer.stalled_until + 1e-6, self._due, lease)
        else:
            producer.at_step(self._expire, lease)

    def _expire(self, lease: FleetLease) -> None:
        if lease.freed:
            return
        if lease.expires > self._agenda.now:
            self._due(lease)
        else:
            self._report(lease, Cause.EXPIRED)

    def reused(self, lease: FleetLease) -> None:  # noqa: ARG002
        raise AssertionError("no lease lapses under this policy: it ends")

    def _noticed(self, lease: FleetLease) -> None:
        if not lease.freed:
            self._report(lease, Cause.RELEASED)

    def _report(self, lease: FleetLease, cause: Cause) -> None:
        """The workers' step begins: as it ends, the scheduler hears that a lease is over."""
        self._producers[lease.producer].at_step(self._free, (lease, cause))

    def _free(self, over: tuple[FleetLease, Cause]) -> None:
        lease, cause = over
        if not lease.freed:
            self._producers[lease.producer].free(lease, cause.value)

    # -- on the consumer ---------------------------------------------------------------------------------------------

    def wanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:
        pass

    def unwanted(self, request: FleetRequest, lease: FleetLease, consumer: ReadingEngine) -> None:  # noqa: ARG002
        if lease.wanted and not lease.crashed:
            self._send_notice(lease)

    def data_in(self, lease: FleetLease) -> bool:
        self._send_notice(lease)
        return True

    def _send_notice(self, lease: FleetLease) -> None:
        now, workers = self._agenda.now, self._fleet.tensor_parallel
        self._books.send("notice", workers * (ID_BYTES + 2), workers, now)
        self._agenda.at(now + self._fleet.latency_s, self._hear_notice, lease)

    def _hear_notice(self, lease: FleetLease) -> None:
        if not lease.freed:
            self._producers[lease.producer].at_step(self._noticed, lease)

    def lost(self, request: FleetRequest, consumer: ReadingEngine) -> bool:  # noqa: ARG002 - nobody ever knows
        return False

    def verdict(self, lease: FleetLease) -> ReadVerdict:  # noqa: ARG002 - nobody looks
        return ReadVerdict.ACCEPTED

    # -- faults: the steps stand still, and there is nothing besides -------------------------------------------------

    def died(self, engine: LeasingEngine) -> None:
        pass

    def stalled(self, engine: LeasingEngine, until: float, process: bool) -> None:
        pass
