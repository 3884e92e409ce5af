"""The lease protocol, pure: no I/O, no thread, no clock. Every method that is called from outside takes `now`; what is
to be done comes out as effects. The simulator, the tests and the engines run this same code.

    peer      both halves, and the order in which they hear
    lessor    the producer's half            lessee    the consumer's half
    claims    its records of consumers       tracking  its records of producers, watch: of its own engine
    said      what an engine tells it        effects   what it asks its owner to do
    facts, engine_facts  what it, and an engine, tell whoever watches
    states    the tables that drive it
    lease     a lease, and its reference     prompt    what a lease is good for
    messages  what crosses the wire          card      what the side channel serves
    config    settings, their proportions    timing    constants that are no settings
    clock     forgiving time, deadlines
"""

from kvlease.protocol.card import Endpoint, LeaseCard, WorkerFence
from kvlease.protocol.config import LeaseConfig, resolve
from kvlease.protocol.lease import Lease, LeaseRef
from kvlease.protocol.lessee import Lessee, LesseeSnapshot
from kvlease.protocol.lessor import Lessor, LessorSnapshot
from kvlease.protocol.peer import Peer, PeerSnapshot
from kvlease.protocol.prompt import Fingerprint
from kvlease.protocol.states import Cause, LeaseState
from kvlease.protocol.timing import TIMING, Timing
from kvlease.protocol.tracking import Standing

__all__ = [
    "Cause",
    "Endpoint",
    "Fingerprint",
    "Lease",
    "LeaseCard",
    "LeaseConfig",
    "LeaseRef",
    "LeaseState",
    "Lessee",
    "LesseeSnapshot",
    "Lessor",
    "LessorSnapshot",
    "Peer",
    "PeerSnapshot",
    "Standing",
    "TIMING",
    "Timing",
    "WorkerFence",
    "resolve",
]
