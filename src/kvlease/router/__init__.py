"""The router: a client's request to a prefill engine, and what that offers to a decode engine, until one answers.

The core is pure: no I/O, no clock, no thread; every call takes `now`. The driver carries out its actions.

failures    how a call to an engine fails, and what follows: a table
actions     what a request asks its driver to do, and the reference that is handed on
request     one request's way, a state machine: a table
policy      how often, how soon and in which ways a request is sent again; the budget that all share
fleet       the engines: what they report, what they were sent, which to ask next
affinity    prompts that begin alike go to the same prefill engine
admission   how many requests are under way at once, and how many wait
"""
