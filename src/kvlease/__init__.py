"""Leases that hold: the lifetime of KV cache blocks between prefill and decode engines.

Its rooms from the ground up; a room needs those of paragraphs above its own alone:

    errors, logs   what goes wrong, and log lines that are bounded

    protocol       the lease protocol, pure: no I/O, no thread, no clock
    routing        where a client's request goes, and where next; as pure
    simulation     the time and the chance of all simulations
    console        the frame of all commands

    fence          the words by which a reader knows that what it read was the lease's
    fleet          many engines in simulation: `kvlease fleet`
    metrics        every figure that an engine tells, and what it means

    agent          the thread that runs the protocol, and its network
    engine         what an engine does for leases, in which order
    events         the life of each lease as lines and spans: `kvlease explain`
    testing        fakes for tests

    admin          what an operator may ask of an engine, and how

    vllm           the connector
    top            a live view of any number of engines: `kvlease top`
    router         clients' requests to prefill and decode engines: `kvlease router`

    doctor         what is wrong with an installation, a configuration or engines, and what to change
    up             engines and a router on this machine

    cli            the command `kvlease`

Importing `kvlease` needs neither vLLM nor NIXL nor torch.
"""

__version__ = "0.1.0"
