"""The producer's cost of one renewal, for n leases that are claimed.

The side of kvlease is a whole turn of the agent in which a renewal arrives: it is taken from the transport, decoded and
applied, its Ack is encoded and handed to the transport, and everything else that a turn does. Stock's is what vLLM's
worker does with a heartbeat of the same leases: the notification is decoded, and every request in it extended.
"""

import time

from proof.bench.core.leased import LeasedProducer
from proof.bench.core.stock import LEASE_S, SilentNixl, bare_worker, hearer, hold, request_ids, require_vllm
from proof.bench.frame.figures import Effort, FigureRow, Result
from proof.bench.frame.growth import growth_curves, growth_goals
from proof.bench.frame.pairs import Repeats, Work, alone, compare, timing
from proof.bench.frame.progress import say

SIZES = {Effort.SHORT: (10, 1_000, 10_000), Effort.FULL: (10, 100, 1_000, 10_000, 100_000, 1_000_000)}
LIMIT_US = 10.0


def run(effort: Effort) -> Result:
    require_vllm()
    amount = timing(effort)
    rows = {leases: _measure(leases, amount) for leases in SIZES[effort]}
    return Result(
        name="renewal",
        title="handling one renewal at the producer",
        rows=[*rows.values(), _nixl_row(amount)],
        goals=growth_goals(rows, LIMIT_US),
        curves=[growth_curves(rows, "claimed leases", "µs for one renewal", LIMIT_US)],
        notes=[
            "kvlease: one whole turn of the agent's thread, in which the renewal arrives and its Ack is handed to the "
            "transport; no step waits for it. Stock: part of the step of every worker",
            "stock does this in every worker of the producer (TP), kvlease once for the engine",
            "what NIXL takes to receive a notification, of 20 B or of n times 33 B, is in neither; handing it the Ack "
            "costs kvlease the last row on top, at any n",
        ],
    )


def _measure(leases: int, amount: Repeats) -> FigureRow:
    say(f"{leases:,} leases")
    return compare(f"{leases:,} leases", ours(leases), stock(leases), amount)


def ours(leases: int) -> Work:
    """A turn in which a renewal of so many leases arrives."""
    producer = LeasedProducer(leases)
    ready: list[tuple[int, bytes]] = []

    def prepare(calls: int) -> None:
        producer.desk.outbox.clear()
        ready[:] = reversed(producer.renewals(calls))

    def call() -> None:
        producer.desk.inbox.append(ready.pop())
        producer.turn()

    return Work(call, prepare)


def stock(leases: int) -> Work:
    """A heartbeat that names so many requests, at a worker that holds the blocks of each."""
    nixl = SilentNixl()
    worker = bare_worker(nixl)
    ids = request_ids(leases)
    hold(worker, ids, time.perf_counter() + LEASE_S)
    # The names are in the order in which a set has them, as the sender joins them.
    nixl.arrived = {"decode": [("HB:" + ",".join(set(ids))).encode()]}
    return Work(hearer(worker))


def _nixl_row(amount: Repeats) -> FigureRow:
    """The row of what it takes to hand real NIXL the Ack."""
    from kvlease.agent.nixl import NixlTransport
    from kvlease.protocol.messages import Ack, encode

    sender, receiver = NixlTransport(1), NixlTransport(2)
    sender.connect(2, receiver.address)
    payload = encode(Ack(1000, []))

    def drain(_: int) -> None:
        # The two agents have no progress threads: only these calls make progress.
        for _ in range(100):
            receiver.receive()
            sender.receive()

    try:
        return alone(
            "the Ack handed to NIXL, at any n",
            Work(lambda: sender.send(2, payload), drain),
            Repeats(amount.pairs, min(amount.block_s, 0.002), amount.budget_s, amount.least_pairs),
        )
    finally:
        sender.close()
        receiver.close()
