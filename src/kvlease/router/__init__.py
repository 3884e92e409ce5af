"""The router: a client's request to a prefill engine, and what that offers to a decode engine, until one answers.

Its core is pure: no I/O, no clock, no thread; every call takes `now` (monotonic seconds), and chance is passed in.

failures    how a call to an engine fails, and what follows: a table
actions     what a request asks its driver to do, and the reference that is handed on
request     one request's way; of it states (the table that drives it) and tries (which engine is asked next)
policy      how often, how soon and in which ways a request is sent again; the budget that all share
fleet       the engines; of it engines (one of them: its report, its calls) and breaker (whether it is worth asking)
affinity    prompts that begin alike go to the same prefill engine
admission   how many requests are under way at once, and how many wait
facts       what a request tells, and the counts for /metrics

Around it is what an operator sees; it needs the packages of `pip install 'kvlease[router]'`:

settings    all that an operator may choose, and what is refused
sources     the places that name engines: flags, a file, the addresses of a name
discovery   all of them together, looked at again and again
looks       one look at an engine: its health, load and leases
watching    the watch over all engines
catalogue   every metric of the router, and what it means
figures     the figures, and the page of metrics
operating   what an operator may ask over HTTP
serving     the process: it listens, and drains when it is told to end
"""
