"""The churn between two processes, a core each, over real NIXL.

The references travel from producer to consumer through a pipe, which stands for the router: it is no part of the lease,
and its cost is not counted as one.
"""

import time
from multiprocessing.connection import Connection

from proof.bench.churn.engines import ChurnConsumer, ChurnProducer, consumer_agent, producer_agent
from proof.bench.churn.meter import ChurnPlan, Meter, Pace, Side, churn
from proof.bench.core.peers import PinnedProcess, one_way_pipe


def over_nixl(plan: ChurnPlan) -> tuple[Side, Side]:
    """Returns the producer's and the consumer's side. Raises `PeerEnded` when one of them does not get through."""
    references, offers = one_way_pipe()
    with (
        PinnedProcess(_produce, offers, plan, core=0) as producer,
        PinnedProcess(_consume, references, plan, core=1) as consumer,
    ):
        offers.close()
        references.close()
        consumer.tell(producer.hear())
        consumer.hear()
        producer.tell("go")
        ours, theirs = producer.hear(), consumer.hear()
        assert isinstance(ours, Side)
        assert isinstance(theirs, Side)
        # They stop only now, since each agent had to be idle with the other one until the last figure.
        producer.tell("stop")
        consumer.tell("stop")
    return ours, theirs


def _produce(parent: Connection, offers: Connection, plan: ChurnPlan) -> None:
    from kvlease.agent.nixl import NixlTransport

    agent = producer_agent(NixlTransport)
    agent.start()
    producer = ChurnProducer(agent)
    parent.send(agent.address)
    parent.recv()
    pace = Pace(plan.rate)

    def step(more: bool) -> None:
        offers.send(producer.step(pace.due() if more else 0))

    def over() -> bool:
        if producer.calls.leases < producer.granted:
            return False
        offers.send(None)
        return True

    parent.send(churn(step, over, [Meter(agent, producer.calls)], plan)[0])
    parent.recv()
    agent.close()


def _consume(parent: Connection, references: Connection, plan: ChurnPlan) -> None:
    from kvlease.agent.nixl import NixlTransport

    agent = consumer_agent(NixlTransport, parent.recv())
    agent.start()
    consumer = ChurnConsumer(agent)
    parent.send("ready")
    # The wait for the first references lets both sides begin at the same time.
    references.poll(None)
    through = False

    def step(more: bool) -> None:
        nonlocal through
        del more
        tokens: list[int] = []
        while references.poll():
            offered = references.recv()
            if offered is None:
                through = True
                continue
            tokens += offered
        consumer.step(tokens, time.monotonic())

    parent.send(churn(step, lambda: through, [Meter(agent, consumer.calls)], plan)[0])
    parent.recv()
    agent.close()
