"""The lease protocol, pure: no I/O, no thread, no clock. Every entry takes `now`; what is to be done comes out as
effects. The simulator, the tests and the engines run this same code.

    messages  what crosses the wire          card      what the side channel serves
    lease     states, causes, references     config    settings and their proportions
    lessor    the producer's half            lessee    the consumer's half (its records: tracking)
    clock     forgiving time, deadlines      effects   what the protocol asks for
    prompt    what a lease is good for
"""

from kvlease.protocol.card import CARD_RANK, LeaseCard, WorkerFence
from kvlease.protocol.config import LeaseConfig, resolve
from kvlease.protocol.lease import Cause, Lease, LeaseRef, LeaseState
from kvlease.protocol.lessee import Lessee
from kvlease.protocol.lessor import Lessor
from kvlease.protocol.prompt import Fingerprint
from kvlease.protocol.tracking import Endpoint, Standing

__all__ = [
    "CARD_RANK",
    "Cause",
    "Endpoint",
    "Fingerprint",
    "Lease",
    "LeaseCard",
    "LeaseConfig",
    "LeaseRef",
    "LeaseState",
    "Lessee",
    "Lessor",
    "Standing",
    "WorkerFence",
    "resolve",
]
