"""The parts of producer and consumer that know nothing of vLLM, where the engine tests do not reach them."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from fake_data_agent import FAKE_ERRORS, FakeDataAgent

from kvlease.agent.cards import MemoryCards
from kvlease.agent.core import AgentCore
from kvlease.agent.memory import MemoryNetwork, MemoryTransport
from kvlease.errors import CardUnavailable
from kvlease.fence import FenceTable, FenceVerifier, FenceWord, Verdict
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef, WorkerFence, resolve
from kvlease.roles.fences import Admission, Rank, RemoteFences, Source
from kvlease.roles.producer import ProducerSide
from kvlease.roles.reads import LeasedReads

CONFIG, _ = resolve({"kv_lease_duration": 6})
P = Source("P", ("p", 1))
PROMPT = Fingerprint(tokens=64, digest=7)


def prefilled(request_id: str) -> Any:
    return SimpleNamespace(request_id=request_id, sampling_params=None)


def test_a_dead_agent_grants_nothing_and_strands_nothing() -> None:
    """Its outstanding leases end one term after it, on the scheduler's own account."""
    now = 1000.0
    network = MemoryNetwork()
    agent = AgentCore(CONFIG, "engine", lambda own: MemoryTransport(network, own), MemoryCards({}))
    producer = ProducerSide(CONFIG, agent, 1, lambda _: PROMPT, clock=lambda: now)
    producer.open(slots=4)
    producer.prepare("before")
    producer.grant(prefilled("before"), PROMPT, ([1, 2],))
    producer.take_orders()
    agent.died_at = now
    producer.prepare("after")
    assert not producer.has("after")
    assert producer.counts["declined.no_agent"] == 1
    assert producer.take_orders().clear == ()
    now += CONFIG.duration_s
    (word,) = producer.take_orders().clear
    producer.hear_cleared({word.slot: 1})
    assert producer.active_leases == producer.held_blocks == producer.slots_used == 0
    assert producer.counts["ends.expired"] == 1


def test_a_prefill_that_was_preempted_keeps_its_word() -> None:
    """vLLM allocates its blocks anew, and tells the connector again."""
    agent = AgentCore(CONFIG, "engine", lambda own: MemoryTransport(MemoryNetwork(), own), MemoryCards({}))
    producer = ProducerSide(CONFIG, agent, 1, lambda _: PROMPT)
    producer.open(slots=4)
    producer.prepare("r")
    (word,) = producer.take_orders().arm
    producer.prepare("r")
    assert producer.take_orders().arm == ()
    assert producer.grant(prefilled("r"), PROMPT, ([1],)).token == word.token
    assert producer.slots_used == 1


class Cards:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Future[LeaseCard]] = []

    def fetch(self, endpoint: Endpoint) -> Future[LeaseCard]:
        assert endpoint == P.endpoint
        self.asked.append(Future())
        return self.asked[-1]


def admit(fences: RemoteFences, cards: Cards, ref: LeaseRef, ranks: list[Rank], answer: LeaseCard | None) -> Admission:
    """As a worker does: asked again when the card has come."""
    asked_again: list[None] = []
    first = fences.admit("r", P, ref, ranks, lambda: asked_again.append(None))
    if first is not Admission.WAIT:
        return first
    if answer is None:
        cards.asked[-1].set_exception(CardUnavailable("nobody is there"))
    else:
        cards.asked[-1].set_result(answer)
    assert asked_again
    return fences.admit("r", P, ref, ranks, lambda: None)


CARD = LeaseCard([1], 7, b"", [WorkerFence(0, 0, 4096, 16)])


def test_a_card_without_a_worker_that_is_read_from_refuses_the_read() -> None:
    """No fence, no read: a card must cover every rank that data comes from, and the slot of the lease."""
    cards = Cards()
    fences = RemoteFences(cards.fetch)
    assert admit(fences, cards, LeaseRef(7, 1, 15, 1000, PROMPT), [(0, 0), (0, 1)], CARD) is Admission.REFUSED
    assert admit(fences, cards, LeaseRef(7, 1, 16, 1000, PROMPT), [(0, 0)], CARD) is Admission.REFUSED
    assert admit(fences, cards, LeaseRef(7, 1, 15, 1000, PROMPT), [(0, 0)], CARD) is Admission.READ
    assert fences.table("P", (0, 0)).slots == 16


def test_an_incarnation_that_is_not_there_is_not_read_from() -> None:
    """R22: a card that nobody serves, and that of another incarnation, which is said once to have replaced the old."""
    cards = Cards()
    fences = RemoteFences(cards.fetch)
    old, new = LeaseRef(7, 1, 0, 1000, PROMPT), LeaseRef(8, 2, 0, 1000, PROMPT)
    assert admit(fences, cards, old, [(0, 0)], None) is Admission.REFUSED
    assert admit(fences, cards, old, [(0, 0)], CARD) is Admission.READ
    restarted = LeaseCard([1], 8, b"", CARD.fences)
    assert admit(fences, cards, new, [(0, 0)], restarted) is Admission.REFUSED
    assert fences.take_replaced("P")
    assert not fences.take_replaced("P")
    assert admit(fences, cards, new, [(0, 0)], restarted) is Admission.READ
    assert admit(fences, cards, old, [(0, 0)], restarted) is Admission.REFUSED


def test_data_is_held_back_until_its_fence_is_read() -> None:
    """S1: and what is not leased is not."""
    agent = FakeDataAgent()
    table = FenceTable(agent, 1)
    verifier = FenceVerifier(agent, errors=FAKE_ERRORS, settle_us=0.0)
    reads = LeasedReads(verifier)
    ref = LeaseRef(7, 1, 0, 1000, PROMPT)
    reads.begin({"leased": ref})
    reads.admit("leased", [FenceWord("P", table.address.word(0), ref.token)])
    arrived = {"leased", "stock"}
    assert reads.verify(arrived) == {}
    assert reads.held_back(arrived) == {"leased"}
    agent.reads[-1].finish()
    assert reads.verify(arrived) == {"leased": Verdict.REVOKED}
    assert reads.held_back(arrived) == set()
    reads.forget("leased")
    assert reads.ref("leased") is None
