"""The lease agent of an engine: a thread that runs the protocol, and never waits for an engine's step.

core       what it does in a turn
asking     questions to the thread that does it
loop       the thread that takes the turns
transport  the network as the agent needs it, and where there is one
cards      where lease cards come from
fetching   threads that fetch them
"""
