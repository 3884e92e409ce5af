"""The product's own protocol, agent and fence code on a simulated network, clock and engine, to be proved wrong.

plan        what is played and what goes wrong, drawn from a seed
run         a plan played to its end                  world      all that there is in a run
engine      an engine, with the product's agent       context    what surrounds it
prefill     its scheduler as producer                 decode     its part as consumer
prefill_worker  its workers as producer
pool        its blocks                                fences     its words, looked at from outside
network     messages between agents                   dataplane  reads between workers
cards       lease cards over the network              clock      time, and clocks that do not agree with it
users       users and the router                      requests   what they ask
routing     kvlease's router, by its own core        routed_plan  what is drawn for it
fronts      how its calls reach engines, and fail    releases    how its leases are released
failover    the judge of what it promises            points      a small world, struck at every point
strikes     what goes wrong there                    kinds       the kinds of fault
faults      how each fault strikes, and ends          trouble    when conditions were worse than is promised for
facts       books about time                          promises   the judge of what stands
stranded    the judge of what is held too long        fuzz       many seeds
shrink      a failing run, cut down                   hunt       the runs until a planted bug is found
report      a run in words                            show       sums and tables

Nothing here runs in an engine. All chance comes from a seed; the same seed and commit give the same run.
"""
