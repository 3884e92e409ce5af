"""The consumer's cost of building what is sent in one interval, for n leases at one producer.

The side of kvlease is the turn of the agent in which the renewal falls due, is encoded and handed to the transport.
Stock's is the scheduler's packing of the heartbeats into the step's metadata, and the worker's joining and encoding of
them.
"""

from types import SimpleNamespace
from typing import Any

from kvlease.protocol import LeaseRef
from kvlease.protocol.clock import TICK_S
from kvlease.vllm.prompts import fingerprint_of
from proof.bench.core.idle_step import SHORT_PROMPT, leased_engine, travel
from proof.bench.core.leased import CONFIG, CONSUMER, PLACE, PRODUCER, LeasedConsumer, lease_tokens
from proof.bench.core.stock import (
    SilentNixl,
    bare_scheduler,
    bare_worker,
    connect,
    heartbeat_sender,
    make_heartbeat_due,
    request_ids,
    require_vllm,
)
from proof.bench.frame.figures import Effort, FigureRow, Result
from proof.bench.frame.growth import DECISIVE, growth_curves, growth_goals
from proof.bench.frame.pairs import Repeats, Work, alone, compare, timing
from proof.bench.frame.progress import say

SIZES = {Effort.SHORT: (10, 1_000, 10_000), Effort.FULL: (10, 100, 1_000, 10_000, 100_000)}
LIMIT_US = 10.0
ENGINE = "prefill"


def run(effort: Effort) -> Result:
    require_vllm()
    amount = timing(effort)
    rows = {leases: _measure(leases, amount) for leases in SIZES[effort]}
    say("its answer, and the way to the workers")
    ids = request_ids(DECISIVE)
    return Result(
        name="interval",
        title="building what a consumer sends in one interval",
        rows=[*rows.values(), _answer_row(amount), _travel_row(ids, amount)],
        goals=growth_goals(rows, LIMIT_US),
        curves=[growth_curves(rows, "leases at one producer", "µs for one interval", LIMIT_US)],
        notes=[
            "kvlease: the turn of the agent's thread in which the renewal is sent. Stock: part of the step, and "
            "the worker's share of it is that of each worker (TP)",
            "not in it, and in the last two rows: the turn in which the Ack is heard; with TP > 1, pickling the step's "
            "metadata, which holds stock's heartbeats, once, and unpickling it in one of the workers",
            "what NIXL takes to send a notification, of 20 B or of n times 33 B, is in neither",
        ],
    )


def _measure(leases: int, amount: Repeats) -> FigureRow:
    say(f"{leases:,} leases")
    sends, _ = ours(leases)
    return compare(f"{leases:,} leases", sends, stock(request_ids(leases)), amount)


def ours(leases: int) -> tuple[Work, Work]:
    """The turn that sends the renewal, and the one that hears the answer; each is timed without the other."""
    consumer = LeasedConsumer(leases)
    acks: list[tuple[int, bytes]] = []
    # The agent keeps deadlines by the tick.
    interval_s = CONFIG.renew_interval_s + TICK_S

    def prepare(calls: int) -> None:
        acks[:] = reversed(consumer.acknowledgements(calls))

    def send() -> None:
        consumer.core.progress()
        consumer.turn(interval_s)

    def lay() -> None:
        assert len(consumer.desk.outbox) == 1, "a renewal was due"
        consumer.desk.outbox.clear()
        consumer.desk.inbox.append(acks.pop())

    def send_and_lay() -> None:
        send()
        lay()

    def lay_and_hear() -> None:
        lay()
        consumer.turn()

    def prepare_and_send(calls: int) -> None:
        # After the last answer of the block one more renewal is sent, which is answered here.
        prepare(calls + 1)
        send_and_lay()

    def settle(calls: int) -> None:
        if consumer.desk.inbox:
            consumer.turn()
        prepare(calls)

    return Work(send, settle, between=lay_and_hear), Work(consumer.turn, prepare_and_send, between=send_and_lay)


def stock(ids: list[str]) -> Work:
    """The interval of vLLM's scheduler and one worker of a decode engine in which these requests wait."""
    nixl = SilentNixl()
    worker, scheduler = bare_worker(nixl), bare_scheduler()
    take_on(scheduler, ids)
    connect(worker, ENGINE, {(0, 0): "a worker of P"})
    send = heartbeat_sender(worker)

    def interval() -> None:
        make_heartbeat_due(scheduler)
        send(scheduler.build_connector_meta(None))

    return Work(interval)


def take_on(scheduler: Any, ids: list[str], *, leased: bool = False) -> None:
    """Gives the scheduler's half of a decode engine a request for each of these; with the reference to a lease, or as a
    stock producer offers them."""
    host, port = PLACE
    for slot, (request_id, token) in enumerate(zip(ids, lease_tokens(len(ids)), strict=True)):
        params = {
            "do_remote_prefill": True,
            "remote_engine_id": ENGINE,
            "remote_request_id": request_id,
            "remote_host": host,
            "remote_port": port,
            "remote_block_ids": ([1],),
            "tp_size": 1,
        }
        request: Any = SimpleNamespace(
            request_id=f"{CONSUMER:x}-{request_id}", kv_transfer_params=params, abort_immediately=False, **SHORT_PROMPT
        )
        if leased:
            params["kv_lease"] = LeaseRef(PRODUCER, token, slot, 30_000, fingerprint_of(request)).to_params()
        scheduler.on_new_request(request)


def _answer_row(amount: Repeats) -> FigureRow:
    _, hears = ours(DECISIVE)
    return alone(f"the Ack heard, {DECISIVE:,} leases", hears, amount)


def _travel_row(ids: list[str], amount: Repeats) -> FigureRow:
    engine, scheduler = leased_engine([]), bare_scheduler()
    take_on(engine.scheduler_half, ids, leased=True)
    ours_metadata = engine.build()
    assert engine.leases.step.consumer.waiting == len(ids)
    take_on(scheduler, ids)
    make_heartbeat_due(scheduler)
    stock_metadata = scheduler.build_connector_meta(None)
    assert len(stock_metadata.heartbeat_by_engine[ENGINE].req_ids) == len(ids)
    return compare(
        f"metadata to the workers (TP > 1), {DECISIVE:,} leases",
        Work(lambda: travel(ours_metadata)),
        Work(lambda: travel(stock_metadata)),
        amount,
    )
