"""The router: a client's request to a prefill engine, and what that offers to a decode engine, until one answers.

`kvlease.routing` decides; the data path carries out what is decided:

app         the application that serves clients, and what of engines they may reach
wire        HTTP of the clients' side, with bounds on what is no request yet
clients     a client's request and answer, as ASGI has it
turns       requests wait for theirs while too many run
bodies      the bodies of requests: what goes to which engine
passing     headers on their way through
upstream    calls to engines, and how they fail
streams     what the events of an answer say, and what of them may go to the client
handling    one request: the core's actions carried out, and what came of them
continuing  streams that go on at another engine, in token space
releasing   prefills that nobody will read, told to their producers
counting    what is counted of one request

Around them is what an operator sees; it needs the packages of `pip install 'kvlease[router]'`:

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
