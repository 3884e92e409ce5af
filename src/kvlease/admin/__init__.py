"""The questions that an operator may ask of an engine, and their answers: the same behind every door.

answers     the bodies of what is answered
figures     all figures of an engine, and unheard: what is held for consumers that are not heard any more
exposition  the figures as text for Prometheus
client      asks an engine over HTTP
"""
