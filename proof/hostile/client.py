"""Clients that write `kv_transfer_params` of their own, beside honest ones, at one decode engine.

What must hold: no call raises; every honest request is read, under the fence of the producer that granted its lease; a
hostile one is read at most under the fence that its reference names; and when all are gone, nothing is left (R12, R14).
"""

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Admission, KnownFences, Source
from kvlease.engine.producer import ProducerSide
from kvlease.errors import CardUnavailable
from kvlease.protocol import Cause, Endpoint, LeaseCard, LeaseRef, WorkerFence
from kvlease.protocol.effects import Lapse
from kvlease.protocol.messages import VERSION
from kvlease.testing.cards import MemoryCards
from kvlease.testing.network import MemoryNetwork, MemoryTransport
from kvlease.testing.pool import CountedPool
from kvlease.vllm.requests import LeasedRequests
from proof.hostile.choices import Choices
from proof.hostile.neighbourhood import CONFIG, IDLE_S, TICK_S, TIMING
from proof.hostile.references import KNOWN, OFFER, PROMPT, SomeRequest, as_vllm, reference_holds, some_json, some_params
from proof.promises.structure import check_lessee, lessee_is_empty

SIDE_CHANNEL: Endpoint = (OFFER["remote_host"], OFFER["remote_port"])
P, D = KNOWN, 0xD
RANKS = [(0, 0)]
SLOTS = 64
PATIENT = replace(CONFIG, max_age_s=3600.0)
"""A configuration under which an honest request may wait as long as the clients like."""


class AttackedDecoder:
    """A decode engine. `honest` and `hostile` are the references of the requests under way, by the requests' ids."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.honest: dict[str, LeaseRef] = {}
        self.hostile: dict[str, LeaseRef | None] = {}
        self.read: set[str] = set()
        network = MemoryNetwork()
        served: dict[Endpoint, LeaseCard] = {}
        self.p, self.d = (
            AgentCore(
                PATIENT,
                f"engine-{own:x}",
                lambda own: MemoryTransport(network, own),
                MemoryCards(served),
                incarnation=own,
                timing=TIMING,
                clock=lambda: self.now,
            )
            for own in (P, D)
        )
        self.card = LeaseCard([VERSION], P, self.p.address, [WorkerFence(0, 0, 4096, SLOTS)])
        served[SIDE_CHANNEL] = self.card
        self.side = ConsumerSide(self.d)
        self.requests = LeasedRequests(ProducerSide(PATIENT, self.d, CountedPool(0), 1), self.side, groups=1)
        self.fences = KnownFences(self._fetch)
        self.released: dict[int, float] = {}
        self._tokens = 0

    def _fetch(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        """Answers the worker, which asks where it shook hands with the engine, whatever the request says."""
        future: Future[LeaseCard] = Future()
        if endpoint == SIDE_CHANNEL:
            future.set_result(self.card)
        else:
            future.set_exception(CardUnavailable("nobody"))
        return future

    # -- requests ------------------------------------------------------------------------------------------------

    def ask_honestly(self) -> None:
        self._tokens += 1
        ref = LeaseRef(P, self._tokens, self._tokens % SLOTS, 1500, PROMPT)
        self.p.grant(ref.token)
        request_id = f"honest-{self._tokens}"
        self.honest[request_id] = ref
        assert not self.requests.arrive(as_vllm(SomeRequest(request_id, OFFER | {"kv_lease": ref.to_params()})))

    def ask_wrongly(self, request_id: str, params: Any) -> None:
        if self.requests.arrive(as_vllm(SomeRequest(request_id, params))):
            return
        self.hostile.setdefault(request_id, reference_holds(params["kv_lease"]))

    def begin(self) -> None:
        """Lets the scheduler begin all requests that wait, and the worker ask which of them may be read."""
        waiting = [*self.honest, *self.hostile]
        reads, unreadable = self.side.begin(waiting)
        assert not unreadable & self.honest.keys(), "an honest request lost its lease"
        for request_id, ref in reads.items():
            if request_id not in self.read:
                self._admit(request_id, ref)

    def _admit(self, request_id: str, ref: LeaseRef) -> None:
        source = Source("P", SIDE_CHANNEL)
        again: list[None] = []
        admission = self.fences.admit(request_id, source, ref, RANKS, lambda: again.append(None))
        if admission is Admission.WAIT:
            assert again
            admission = self.fences.admit(request_id, source, ref, RANKS, lambda: None)
        if admission is Admission.READ:
            assert ref.incarnation == P
            assert ref.slot < self.fences.table("P", RANKS[0]).slots
            self.read.add(request_id)
        assert admission is Admission.READ or request_id not in self.honest, f"{request_id} is {admission}"

    def end(self, request_id: str) -> None:
        self.side.release(request_id)
        self.fences.forget(request_id)
        self.read.discard(request_id)
        self.hostile.pop(request_id, None)
        if ref := self.honest.pop(request_id, None):
            self.released[ref.token] = self.now

    # -- time ----------------------------------------------------------------------------------------------------

    def run(self, duration_s: float) -> None:
        for _ in range(max(1, round(duration_s / TICK_S))):
            self.now += TICK_S
            for core in (self.p, self.d):
                core.progress()
                core.turn(self.now)
            check_lessee(self.d.peer.lessee.snapshot(), TIMING)
            for news in self.p.take_news():
                assert news == Lapse(news.token, Cause.RELEASED), f"not by an honest request: {news}"
                del self.released[news.token]
                self.p.cleared(news.token)
            assert len(self.d.peer.lessee.sessions) <= 1 + len(self.hostile) + self.recent
            assert self.side.waiting == len(self.honest) + len(self.hostile)

    recent = 64
    """The most sessions of hostile requests that have ended: the agent still looks for their producers for a while."""

    def wind_down(self) -> None:
        for request_id in [*self.honest, *self.hostile]:
            self.end(request_id)
        self.run(4 * IDLE_S)
        assert not self.released
        lessee_is_empty(self.d.peer.lessee.snapshot())
        assert self.side.waiting == len(self.side.lost) == 0
        kept = self.fences.snapshot()
        assert not kept.fetching
        assert not kept.replaced
        assert len(kept.known) <= 1


def play(data: bytes) -> None:
    """Lets clients ask as `data` says, and leave."""
    choices = Choices(data)
    engine = AttackedDecoder()
    reference_holds(some_json(choices))
    for _ in range(60):
        if not choices.left:
            break
        match choices.below(8):
            case 0 | 1:
                engine.ask_honestly()
            case 2 | 3 | 4:
                engine.ask_wrongly(f"hostile-{choices.below(20)}", some_params(choices))
            case 5:
                engine.begin()
            case 6:
                under_way = [*engine.honest, *engine.hostile, "nobody"]
                engine.end(choices.pick(under_way))
            case _:
                engine.run((1 + choices.below(10)) * TICK_S)
    # Honest requests that did not begin yet have to be readable still.
    engine.run(1.0)
    engine.begin()
    engine.wind_down()
