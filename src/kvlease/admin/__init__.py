"""The questions that an operator may ask of an engine, and their answers: the same behind every door.

answers     the bodies of what is answered
questions   what may be asked, as bytes that one process hands to another
core        answers them, in the scheduler's process; of them listing (leases and sessions) and health
engines     several data-parallel engines as one
routes      the routes under /v1/kvlease, behind any door; of them reading (what is asked), openapi (their description)
settings    the listener's settings
listener    the agent's own door, beside or in place of the engine's; of it connections (how many, and who gives way)
figures     all figures of an engine, and unheard: what is held for consumers that are not heard any more
exposition  the figures as text for Prometheus
client      asks an engine over HTTP
"""
