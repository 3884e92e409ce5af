"""Bugs that are planted in the product's code to see whether the proofs find them.

bug        what a planted bug is
found      the runs in which each was found when it was hunted last
fences     words, slots, tokens, and what a consumer's worker makes of them
blocks     who holds the blocks of leases, and who is told before they are given away
producers  the lessor, and the scheduler of a producer
sessions   messages that come late, twice or not at all
consumers  the lessee, and the scheduler of a consumer
agents     the turn of an agent, and its transport
steps      the order of what is done inside a step
routers    the core of kvlease's router
"""

from proof.planted import agents, blocks, consumers, fences, producers, routers, sessions, steps
from proof.planted.bug import PLANTED, Planted

__all__ = ["PLANTED", "Planted", "agents", "blocks", "consumers", "fences", "producers", "routers", "sessions", "steps"]
