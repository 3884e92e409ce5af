"""The decisions of the router: where a request goes, and where it goes next.

Pure: no I/O, no clock, no thread; every call takes `now` (monotonic seconds), and chance is passed in. `kvlease.router`
carries out what is decided here, on real engines, and the simulator on simulated ones.

failures    how a call to an engine fails, and what follows: a table
actions     what a request asks its driver to do, and the reference that is handed on
request     one request's way; of it states (the table that drives it) and tries (which engine is asked next)
policy      how often, how soon and in which ways a request is sent again; the budget that all share
fleet       the engines; of it engines (one of them: its report, its calls) and breaker (whether it is worth asking)
affinity    prompts that begin alike go to the same prefill engine
admission   how many requests are under way at once, and how many wait
facts       what a request tells, for /metrics
"""
