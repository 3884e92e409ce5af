"""The sequence of a worker's step keeps S1 and S2, and each other order breaks one of them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import permutations

import pytest

from kvlease.engine.known_fences import Admission, Source
from kvlease.engine.orders import FenceOrders, LeaseOrders, WorkerReport
from kvlease.engine.worker import LeaseWorker, StepPart
from kvlease.fence import FenceTable, FenceVerifier, RegisteredWords, Verdict
from kvlease.fence.slots import Slot
from kvlease.protocol import Endpoint, Fingerprint, LeaseCard, LeaseRef, WorkerFence
from kvlease.testing.data_agent import FAKE_ERRORS, FakeDataAgent

P = Source("P", ("p", 1))
PROMPT = Fingerprint(tokens=64, digest=7)
OLD, NEW, ABORTED = Slot("old", 0, 10), Slot("new", 1, 11), Slot("aborted", 2, 12)
REF = LeaseRef(7, 1, 0, 1000, PROMPT)


class Host:
    """An engine's worker (`HostWorker`)."""

    def __init__(self, *, in_order: Sequence[StepPart] = LeaseWorker.order) -> None:
        self.agent = FakeDataAgent()
        self.table = FenceTable(RegisteredWords(self.agent, 4))
        verifier = FenceVerifier(self.agent, RegisteredWords(self.agent, 4), errors=FAKE_ERRORS, settle_us=0.0)
        self.leases = LeaseWorker(self.table, verifier, self._fetch)
        self._order = in_order
        self.beginning: list[str] = []
        """The requests that the step begins to read."""
        self.failed: list[str] = []
        self.read: list[tuple[str, bool]] = []
        """The reads that it has begun, and whether each will be fenced."""

    def _fetch(self, endpoint: Endpoint) -> Future[LeaseCard]:
        """The card of another engine, whose fence is this engine's own words here."""
        future: Future[LeaseCard] = Future()
        assert endpoint == P.endpoint
        future.set_result(LeaseCard([1], REF.incarnation, b"", [WorkerFence(0, 0, *self.table.address)]))
        return future

    def step(self, orders: LeaseOrders) -> None:
        for part in self._order:
            self.leases.do(part, orders, self)

    def load(self) -> None:
        for request_id in self.beginning:
            if request_id not in self.failed:
                self._begin(request_id)

    def _begin(self, request_id: str) -> None:
        if self.leases.reads.ref(request_id) is None:
            self.read.append((request_id, False))
            return
        for _ in range(2):
            # The worker asks again when the card has come.
            admission = self.leases.admit(
                request_id, P, {(0, 0): "P0"}, lambda: self.read.append((request_id, True)), lambda: None
            )
            if admission is not Admission.WAIT:
                return

    def fail(self, request_id: str) -> None:
        self.failed.append(request_id)


def armed_at_first(**settings: Sequence[StepPart]) -> Host:
    host = Host(**settings)
    host.leases.words.arm(FenceOrders(arm=(OLD,)))
    return host


def full_step(host: Host) -> LeaseOrders:
    """The orders of a step in which a prefill begins and one ends, one was aborted before its first step, a leased
    request is to be read, and one that is known to be lost is not."""
    host.beginning = ["leased", "lost"]
    fence = FenceOrders(arm=(NEW, ABORTED), clear=(OLD, ABORTED))
    return LeaseOrders(fence, {"leased": REF}, frozenset({"lost"}))


def outcome(host: Host) -> tuple[list[int], list[tuple[str, bool]], list[str]]:
    return [host.table.word(slot.index) for slot in (OLD, NEW, ABORTED)], host.read, host.failed


RIGHT = ([0, NEW.token, 0], [("leased", True)], ["lost"])


def test_a_step_arms_reads_under_leases_and_clears_what_is_over() -> None:
    host = armed_at_first()
    host.leases.step(full_step(host), host)
    assert outcome(host) == RIGHT
    assert host.leases.take_report() == WorkerReport(cleared=Counter({OLD.index: 1, ABORTED.index: 1}))
    assert host.leases.take_report() is None


@pytest.mark.parametrize(
    "order", list(permutations(StepPart)), ids=lambda order: "-".join(part.value for part in order)
)
def test_an_order_that_does_not_begin_with_arming_is_seen(order: tuple[StepPart, ...]) -> None:
    """S1, S2: loading before arming reads a leased request without its fence, and a lost one; clearing before arming
    leaves a word armed over blocks that are freed."""
    host = armed_at_first(in_order=order)
    host.step(full_step(host))
    at = {part: order.index(part) for part in StepPart}
    words, read, _ = outcome(host)
    assert read == (
        [("leased", True)] if at[StepPart.ARM] < at[StepPart.LOAD] else [("leased", False), ("lost", False)]
    )
    assert (words == RIGHT[0]) == (at[StepPart.ARM] < at[StepPart.CLEAR])
    assert (outcome(host) == RIGHT) == (order[0] is LeaseWorker.order[0])


def test_a_stock_consumers_notice_clears_nothing_and_is_reported_once() -> None:
    """R24: others may read the same lease, so the lessor decides."""
    host = armed_at_first()
    host.leases.end(received=(), sent={"old"})
    assert host.table.word(OLD.index) == OLD.token
    assert host.leases.take_report() == WorkerReport(read=Counter(old=1))
    assert host.leases.take_report() is None


def test_reports_of_several_workers_add_up() -> None:
    both = WorkerReport(Counter({0: 1}), {"a"}, Counter(r=1)) | WorkerReport(Counter({0: 1}), {"b"}, Counter(r=1))
    assert both == WorkerReport(Counter({0: 2}), {"a", "b"}, Counter(r=2))


def reading(host: Host) -> None:
    host.beginning = ["leased"]
    host.step(LeaseOrders(FenceOrders(), {"leased": REF}, frozenset()))
    assert host.read == [("leased", True)]


def test_s1_data_is_held_back_until_its_fence_is_read() -> None:
    """S1: a leased request's data is held back until its fence is read, and an unleased one's is not."""
    host = Host()
    reading(host)
    arrived = {"leased", "stock"}
    assert host.leases.verify(arrived) == ({}, {"leased"})
    assert host.leases.verify(arrived) == ({}, {"leased"})
    host.agent.reads[-1].finish()
    assert host.leases.verify(arrived) == ({"leased": Verdict.REVOKED}, set()), "nobody has armed that word"
    host.leases.end(received={"leased"}, sent=())
    assert host.leases.reads.ref("leased") is None


def test_s1_the_fence_is_read_after_the_data_has_arrived() -> None:
    """S1: a fence's read is made ready as the data's begins, when nobody waits, and posted after the data is here."""
    host = Host()
    host.leases.words.arm(FenceOrders(arm=(Slot("theirs", 0, REF.token),)))
    reading(host)
    assert [read.state for read in host.agent.reads] == ["INIT"]
    host.table.clear(0)
    host.leases.verify({"leased"})
    host.agent.reads[-1].finish()
    verdicts, _ = host.leases.verify({"leased"})
    assert verdicts == {"leased": Verdict.REVOKED}, "what held when the read of the data began vouches for nothing"


def test_what_is_admitted_of_no_lease_is_a_mistake() -> None:
    host = Host()
    with pytest.raises(AssertionError, match="stock is not leased"):
        host.leases.admit("stock", P, {(0, 0): "P0"}, lambda: None, lambda: None)


def test_a_stock_heartbeat_is_told_once() -> None:
    host = armed_at_first()
    for name in ("old", "other", "old"):
        host.leases.hear_heartbeat(name)
    assert host.leases.take_report() == WorkerReport(heartbeats={"old", "other"})
    assert host.leases.take_report() is None


def test_whoever_reads_while_an_engine_goes_down_finds_no_word() -> None:
    host = armed_at_first()
    host.leases.close()
    assert host.table.word(OLD.index) == 0
    assert host.agent.registered == []


def test_an_engine_that_shuts_down_twice_asks_nothing_of_nixl_the_second_time() -> None:
    """A second shutdown asks nothing of NIXL: vLLM's comes with garbage collection, when its peers are gone."""
    host = Host()
    host.beginning = ["r"]
    host.step(LeaseOrders(FenceOrders(arm=(Slot("held", 0, REF.token),)), {"r": REF}, frozenset()))
    host.leases.verify(["r"])
    (under_way,) = host.agent.reads
    assert under_way.state == "PROC"
    host.leases.close()
    under_way.fail(AssertionError("asked after the engine had let go of its peer"))
    host.leases.close()


def test_a_verdict_that_is_not_intact_is_told_to_the_scheduler_once() -> None:
    host = Host()
    reading(host)
    host.leases.verify({"leased"})
    assert host.leases.take_report() is None
    host.agent.reads[-1].finish()
    host.leases.verify({"leased"})
    assert host.leases.take_report() == WorkerReport(unused={"leased": "revoked"})
    assert host.leases.take_report() is None


def test_an_intact_read_is_not_told_of() -> None:
    host = Host()
    host.leases.words.arm(FenceOrders(arm=(Slot("theirs", 0, REF.token),)))
    reading(host)
    host.leases.verify({"leased"})
    host.agent.reads[-1].finish()
    assert host.leases.verify({"leased"})[0] == {"leased": Verdict.INTACT}
    assert host.leases.take_report() is None


def test_a_read_without_a_fence_is_told_to_the_scheduler() -> None:
    host = Host()
    nowhere = LeaseRef(8, 1, 0, 1000, PROMPT)
    host.step(LeaseOrders(FenceOrders(), {"leased": nowhere}, frozenset()))
    admissions = [host.leases.admit("leased", P, {(0, 0): "P0"}, lambda: None, lambda: None) for _ in range(2)]
    assert admissions == [Admission.WAIT, Admission.REFUSED]
    assert host.leases.take_report() == WorkerReport(unused={"leased": "no_fence"})


def test_of_several_workers_that_refuse_a_request_the_first_ones_reason_counts() -> None:
    both = WorkerReport(unused={"a": "revoked"}) | WorkerReport(unused={"a": "failed", "b": "failed"})
    assert both.unused == {"a": "revoked", "b": "failed"}
