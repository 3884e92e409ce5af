"""What flat terms and vLLM's lease have in common: notices of completion, and reads that nobody checks.

As in vLLM 0.32 (`nixl/pull_worker.py`, `base_worker.py`): the notice rides on the data read, one from each worker of
the consumer; a request that ends on the consumer unread sends it with an empty read. The producer hears notices, and
looks for what has expired, once a step. Whatever a read brought is taken for what was asked for.
"""

from collections import deque
from typing import TYPE_CHECKING

from kvlease.fleet.decode import Consumer
from kvlease.fleet.leasing import Verdict
from kvlease.fleet.prefill import Producer
from kvlease.fleet.records import Lease, Request
from kvlease.protocol import Cause

if TYPE_CHECKING:
    from kvlease.fleet.world import World

ID_BYTES = 32
"""Of a request id; with the comma after it that makes the 33 B a lease that were measured."""


class NoticeLeasing:
    """Holds blocks for one term after the grant. `Leasing` for flat terms, and the ground of vLLM's lease."""

    def __init__(self, world: "World", term_s: float) -> None:
        self._world = world
        self._term_s = term_s
        self._first_terms: deque[tuple[float, Lease]] = deque()
        """Ends of first terms, in the order of the grants, which is theirs too."""

    # -- on the producer ---------------------------------------------------------------------------------------------

    def granted(self, lease: Lease) -> None:
        agenda = self._world.agenda
        lease.expires = agenda.now + self._term_s
        self._first_terms.append((lease.expires, lease))
        if len(self._first_terms) == 1:
            agenda.at(lease.expires, self._look, None)

    def _look(self, _: object) -> None:
        """At the leases whose first term is over. One event for all of them: most were read long ago."""
        agenda, terms = self._world.agenda, self._first_terms
        while terms and (terms[0][1].freed or terms[0][0] <= agenda.now):
            self._due(terms.popleft()[1])
        if terms:
            agenda.at(terms[0][0], self._look, None)

    def _due(self, lease: Lease) -> None:
        """Its deadline may be over: it is freed with the next step, unless something came before."""
        agenda = self._world.agenda
        if lease.freed:
            return
        if lease.expires > agenda.now:
            agenda.at(lease.expires, self._due, lease)
        elif lease.producer.stalled_until > agenda.now:
            # The step hears what arrived meanwhile before it looks at deadlines.
            agenda.at(lease.producer.stalled_until + 1e-6, self._due, lease)
        else:
            lease.producer.at_step(self._expire, lease)

    def _expire(self, lease: Lease) -> None:
        if lease.freed:
            return
        if lease.expires > self._world.agenda.now:
            self._due(lease)
        else:
            lease.producer.free(lease, Cause.EXPIRED.value)

    def _noticed(self, lease: Lease) -> None:
        if not lease.freed:
            lease.producer.free(lease, Cause.RELEASED.value)

    # -- on the consumer ---------------------------------------------------------------------------------------------

    def wanted(self, request: Request, consumer: Consumer) -> None:
        pass

    def unwanted(self, request: Request, lease: Lease, consumer: Consumer) -> None:  # noqa: ARG002
        if lease.wanted and not lease.crashed:
            self._send_notice(lease)

    def data_in(self, lease: Lease) -> bool:
        self._send_notice(lease)
        return True

    def _send_notice(self, lease: Lease) -> None:
        world = self._world
        workers = world.fleet.tensor_parallel
        world.books.send("notice", workers * (ID_BYTES + 2), workers, world.agenda.now)
        world.agenda.at(world.agenda.now + world.fleet.latency_s, self._hear_notice, lease)

    def _hear_notice(self, lease: Lease) -> None:
        if not lease.freed:
            lease.producer.at_step(self._noticed, lease)

    def lost(self, request: Request, consumer: Consumer) -> bool:  # noqa: ARG002 - nobody ever knows
        return False

    def verdict(self, lease: Lease) -> Verdict:  # noqa: ARG002 - nobody looks
        return Verdict.ACCEPTED

    # -- faults: the steps stand still, and there is nothing besides -------------------------------------------------

    def died(self, engine: Producer | Consumer) -> None:
        pass

    def started(self, engine: Producer | Consumer) -> None:
        pass

    def stalled(self, engine: Producer | Consumer, until: float, process: bool) -> None:
        pass
