"""Load on `kvlease router` with fake engines: what it adds to an answer, many streams at once, a run with restarts.

engines     fake engines as processes, which can be killed and started again
routers     the routers: ours, and those beside it
wire        a client that measures, and adds little by itself
reading     the text of an answer, from its bytes
outcome     the findings as plain data
overhead    what a router adds, all routers in turn
streams     many streams at once, also with a decode engine that dies
soak        steady traffic with restarts, every answer checked
slope       the growth of memory, with its error
report      tables, and the file
"""
