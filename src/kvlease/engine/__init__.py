"""The part of an engine that serves leases, in its scheduler and in its workers, for any kind of engine.

scheduler     the sequence in a scheduler
worker        the sequence in a worker
producer      leases that are granted, in a scheduler
leased_blocks their blocks in its pool
unread        the lapsed leases that nobody has read, which the pool is to reuse later than others
own_fences    their words, as it has them armed and cleared
consumer      requests that read under leases, in a scheduler
armed         the words that a worker arms and clears by order
reads         the reads of a worker, held back until their fence is read
known_fences  the tables of producers that a worker knows
orders        what goes from a scheduler to its workers, and back
ports         what the lease agent and the engine have to offer
"""
