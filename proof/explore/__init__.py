"""A small world of producers and consumers, explored completely: every order of everything that can happen in it.

worlds     the worlds that are explored, by name
scale      the world's time, in ticks, and how many of each thing there are
wire       what agents, fences and reads stand on here: a network, a clock and memory that can be copied
agent      a lease agent, one turn at a time
producer   the engine of a producer: scheduler, workers that carry out a step each on their own, blocks that are reused
pool       its block pool
fences     its fence: slots, and its workers' tables
consumer   the engine of a consumer: requests that read block by block, and then the fence
parts      one part of the world on its own: what it does with an input is worked out once
canonical  the normal form that tells whether two of them are the same
books      the facts by which promises are judged
views      what has to be known of a part
state      the whole world at a moment, and what lies outside its parts
draft      a state that is being changed
actions    what can happen next
world      what happens then
judging    whether a promise was broken
checks     what the producer's agent and engine have to agree in
liveness   what becomes of a state without faults (L1, L2, L3)
search     all states, breadth first
words      actions in words
report     findings in words and as JSON

All that decides is the product's own code: `AgentCore.turn`, `LeaseScheduler` and `LeaseWorker` with all that is in
them, `FenceTable`, `FenceVerifier`.
"""
