"""The churn in one process: both engines on one thread, each agent on its own, over the in-memory transport."""

import time

from kvlease.testing.network import MemoryNetwork, MemoryTransport
from proof.bench.churn.engines import ChurnConsumer, ChurnProducer, consumer_agent, producer_agent
from proof.bench.churn.meter import ChurnPlan, Meter, Pace, Side, churn


def over_memory(plan: ChurnPlan) -> tuple[Side, Side]:
    """Returns the producer's and the consumer's side. Raises `Stranded`."""
    network = MemoryNetwork()
    agents = [producer_agent(lambda own: MemoryTransport(network, own))]
    agents.append(consumer_agent(lambda own: MemoryTransport(network, own), agents[0].address))
    for agent in agents:
        agent.start()
    producer, consumer = ChurnProducer(agents[0]), ChurnConsumer(agents[1])
    pace = Pace(plan.rate)

    def step(more: bool) -> None:
        consumer.step(producer.step(pace.due() if more else 0), time.monotonic())

    meters = [Meter(agents[0], producer.calls), Meter(agents[1], consumer.calls)]
    try:
        ours, theirs = churn(step, lambda: producer.calls.leases == producer.granted, meters, plan)
    finally:
        for agent in reversed(agents):
            agent.close()
    return ours, theirs
