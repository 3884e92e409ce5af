"""Bytes and messages between two engines, for each lease and term, in a steady state.

For kvlease two real agents play for some terms of simulated time; for stock vLLM's own code sends the heartbeats and
notices of the same requests, for every worker. Every message is counted.
"""

import itertools
import json
from dataclasses import dataclass

from kvlease.protocol import Fingerprint, LeaseRef
from proof.bench.core.leased import CONFIG
from proof.bench.core.stock import request_ids, require_vllm
from proof.bench.frame.figures import Curves, Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.pairs import paired
from proof.bench.frame.progress import say
from proof.bench.wire import header as wire_header
from proof.bench.wire import ours as wire_ours
from proof.bench.wire import stock as wire_stock

SIZES = (100, 1_000, 10_000)
DECISIVE = 10_000
TPS = (1, 2, 4, 8)
TERMS = {Effort.SHORT: 1, Effort.FULL: 4}
SHORT_LIFE_S = 0.5
RENEWALS_SHARE = 0.01
ALL_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes and messages, for each lease and term."""

    bytes: float
    messages: float

    def with_header(self, header: float) -> float:
        """The bytes, those that NIXL adds to each message included."""
        return self.bytes + self.messages * header


@dataclass(frozen=True, slots=True)
class Case:
    """The same leases on both sides; stock with one worker on each side, which is where it sends least."""

    what: str
    ours: Load
    stock: Load


def run(effort: Effort) -> Result:
    require_vllm()
    terms = TERMS[effort]
    waits = {leases: _waiting(leases, terms) for leases in SIZES}
    flows = {leases: _flowing(leases, CONFIG.duration_s, terms) for leases in SIZES}
    hasty = _flowing(DECISIVE, SHORT_LIFE_S, terms)
    cases = [*waits.values(), *flows.values(), hasty]
    say("what NIXL adds")
    header = wire_header.measure()
    return Result(
        name="wire",
        title="bytes and messages for each lease and term",
        rows=[
            *(_bytes_row(case, tp=1) for case in cases),
            *(_bytes_row(case, tp) for tp in TPS[1:] for case in (waits[DECISIVE], flows[DECISIVE])),
            *(_messages_row(case) for case in cases),
            *(_whole_row(case, header) for case in (waits[DECISIVE], flows[DECISIVE], hasty) if header),
            *_once_rows(),
        ],
        goals=goals(waits[DECISIVE], flows[DECISIVE]),
        curves=[_curves(waits, "renewals alone"), _curves(flows, "claims, drops and notices included")],
        notes=_notes(header),
    )


def _waiting(leases: int, terms: int) -> Case:
    say(f"{leases:,} leases wait")
    traffic = wire_ours.waiting(leases, terms)
    ours = Load(traffic.bytes / leases / terms, traffic.messages / leases / terms)
    return Case(f"{leases:,} wait", ours, stock_load(leases, waiting=leases, read=0))


def _flowing(leases: int, life_s: float, terms: int) -> Case:
    say(f"{leases:,} leases a term, each read after {life_s:g} s")
    traffic = wire_ours.flowing(leases, life_s, terms)
    ours = Load(traffic.bytes / leases / terms, traffic.messages / leases / terms)
    at_once = round(leases * life_s / CONFIG.duration_s)
    stock = stock_load(leases, waiting=at_once, read=leases)
    return Case(f"{leases:,} a term, read after {life_s:g} s", ours, stock)


def stock_load(leases: int, *, waiting: int, read: int) -> Load:
    """vLLM's load for each of `leases` and term: so many requests wait at any time, so many are read in a term."""
    ids = request_ids(max(waiting, 1))
    beats = wire_stock.beats_per_term()
    beat = wire_stock.heartbeat(ids[:waiting], 1, 1) if waiting else wire_stock.Sent(0, 0)
    notice = wire_stock.notices(ids[0], 1, 1)
    return Load(
        (beats * beat.bytes + read * notice.bytes) / leases, (beats * beat.messages + read * notice.messages) / leases
    )


def times_stock(producer_tp: int, consumer_tp: int) -> int:
    """The factor by which stock sends more with these numbers of workers than with one on each side.

    It is counted, not assumed: each worker of D writes to each worker of P that it shook hands with. Raises
    `AssertionError` should heartbeats and notices, messages and bytes, ever differ in it.
    """
    ids = request_ids(10)
    factors = set()
    for one, many in (
        (wire_stock.heartbeat(ids, 1, 1), wire_stock.heartbeat(ids, producer_tp, consumer_tp)),
        (wire_stock.notices(ids[0], 1, 1), wire_stock.notices(ids[0], producer_tp, consumer_tp)),
    ):
        factors |= {many.messages / one.messages, many.bytes / one.bytes}
    (factor,) = factors
    return int(factor)


def _bytes_row(case: Case, tp: int) -> FigureRow:
    return paired(f"{case.what}, TP {tp}", "B", [case.ours.bytes], [case.stock.bytes * times_stock(tp, tp)])


def _messages_row(case: Case) -> FigureRow:
    return paired(f"messages: {case.what}, TP 1", "", [case.ours.messages], [case.stock.messages])


def _whole_row(case: Case, header: tuple[float, float]) -> FigureRow:
    ours, stock = case.ours.with_header(header[0]), case.stock.with_header(header[1])
    return paired(f"with NIXL's header: {case.what}, TP 1", "B", [ours], [stock])


def _once_rows() -> list[FigureRow]:
    opening = wire_ours.opening()
    reference = LeaseRef(1 << 63, 1 << 63, 10_000, 30_000, Fingerprint(1, 0)).to_params()
    in_params = len(json.dumps({"kv_lease": reference})) - len("{}")
    return [
        FigureRow("once for a pair of engines: Hello and Welcome", "B", Spread.of([opening.bytes])),
        FigureRow("once for a lease, in kv_transfer_params, through the router", "B", Spread.of([in_params])),
    ]


def goals(waits: Case, flows: Case) -> list[Goal]:
    """The goals, for the decisive number of leases, with one worker on each side, where stock sends least."""
    renewals, everything = waits.ours.bytes / waits.stock.bytes, flows.ours.bytes / flows.stock.bytes
    return [
        Goal(
            f"renewals: under {RENEWALS_SHARE:.0%} of stock's bytes at {DECISIVE:,} leases",
            f"{renewals:.3%}",
            renewals < RENEWALS_SHARE,
        ),
        Goal(
            f"claims included: under a third of stock's bytes at {DECISIVE:,} leases",
            f"{everything:.1%}",
            everything < ALL_SHARE,
        ),
    ]


def _curves(cases: dict[int, Case], which: str) -> Curves:
    series: dict[str, list[tuple[float, Spread]]] = {"kvlease": [], "stock": [], "stock, TP 8": []}
    times = times_stock(8, 8)
    for leases, case in cases.items():
        series["kvlease"].append((leases, Spread.of([case.ours.bytes])))
        series["stock"].append((leases, Spread.of([case.stock.bytes])))
        series["stock, TP 8"].append((leases, Spread.of([case.stock.bytes * times])))
    return Curves("leases", f"B for each lease and term ({which})", series, log_x=True, log_y=True)


def _notes(header: tuple[float, float] | None) -> list[str]:
    larger = all(times_stock(p, d) == max(p, d) for p, d in itertools.product(TPS, TPS))
    scaling = "as many times as the larger side has workers" if larger else "differently on each pair of sizes"
    whole = (
        f"NIXL and UCX add {header[0]:g} B to each message of kvlease and {header[1]:g} B to each of vLLM's: over TCP, "
        "without TCP's own; the sender's name is part of it"
        if header
        else "what NIXL adds to each message, the sender's name among it, was not measured here and is not in the bytes"
    )
    return [
        f"a term is {CONFIG.duration_s:g} s on both sides; both directions are counted, and all kinds of message",
        "kvlease sends the same whatever TP is: one agent an engine. Stock sends, for P and D with 1, 2, 4 and 8 "
        f"workers each, {scaling}: all 16 pairs were counted",
        f"kvlease's agents had a turn every {wire_ours.TURN_S * 1e3:g} ms and no message was lost",
        whole,
        "not messages, and not counted: the fence's read, 8 B from each worker of P that a worker of D reads from",
    ]
