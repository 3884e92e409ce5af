"""The fence over real NIXL: one-sided reads of another process's words, also of one that has died (S1)."""

from collections.abc import Hashable, Iterator
from typing import Any

import pytest

from kvlease.agent.nixl import errors_of
from kvlease.fence import FenceAddress, FenceVerifier, FenceWord, RegisteredWords, Verdict
from tests.realengines.nixl_peer import PeerProcess
from tests.realengines.over_nixl import OVER_TCP, pass_over_tcp
from tests.waiting import wait_until

pytestmark = pytest.mark.engine

SLOTS = 1024
TOKEN = 0xFEDC_BA98_7654_3210


class Consumer:
    """A worker of D: its data-plane agent, which is connected to the producer's, and its verifier."""

    def __init__(self, producer: PeerProcess, capacity: int = 64, lost_after_s: float = 30.0) -> None:
        from nixl._api import nixl_agent, nixl_agent_config

        self.agent = nixl_agent(f"consumer-{id(self)}", nixl_agent_config(enable_prog_thread=False))
        self.verifier = FenceVerifier(
            self.agent, RegisteredWords(self.agent, capacity), errors=errors_of("nixl"), lost_after_s=lost_after_s
        )
        self.producer_name = self.agent.add_remote_agent(producer.address)
        self.fence = FenceAddress(producer.fence_base, SLOTS)

    def word(self, slot: int, token: int = TOKEN) -> FenceWord:
        return FenceWord(self.producer_name, self.fence.word(slot), token)

    def verdicts(self, count: int) -> dict[Hashable, Verdict]:
        """Polls until there are `count` verdicts, and returns them by request."""
        verdicts: dict[Hashable, Verdict] = {}

        def enough() -> bool:
            verdicts.update(self.verifier.settle())
            return len(verdicts) >= count

        wait_until(enough)
        return verdicts


@pytest.fixture
def producer() -> Iterator[PeerProcess]:
    with PeerProcess(1, role="fence") as process:
        yield process


@pytest.fixture
def consumer(producer: PeerProcess) -> Iterator[Consumer]:
    consumer = Consumer(producer)
    yield consumer
    producer.kill()
    consumer.verifier.close()


def test_a_word_is_intact_while_armed_and_revoked_when_cleared_or_reused(
    producer: PeerProcess, consumer: Consumer
) -> None:
    def verdict() -> Verdict:
        consumer.verifier.post("r", [consumer.word(7)])
        return consumer.verdicts(1)["r"]

    assert verdict() is Verdict.REVOKED
    assert producer.call("arm", 7, TOKEN) is None
    assert verdict() is Verdict.INTACT
    assert producer.call("clear", 7) is None
    assert verdict() is Verdict.REVOKED
    assert producer.call("arm", 7, TOKEN - 1) is None
    assert verdict() is Verdict.REVOKED


def test_every_slot_is_its_own_word(producer: PeerProcess, consumer: Consumer) -> None:
    """Each slot of the table, to the last one, has its own word, read by more requests than there are landing words."""
    for slot in range(0, SLOTS, 3):
        assert producer.call("arm", slot, slot + 1) is None
    for slot in range(SLOTS):
        consumer.verifier.post(slot, [consumer.word(slot, token=slot + 1)])
    verdicts = consumer.verdicts(SLOTS)
    expected = {slot: Verdict.REVOKED if slot % 3 else Verdict.INTACT for slot in range(SLOTS)}
    assert verdicts == expected
    assert consumer.verifier.retained == 0


def test_words_of_two_producer_workers(producer: PeerProcess, consumer: Consumer) -> None:
    with PeerProcess(2, role="fence") as second:
        name = consumer.agent.add_remote_agent(second.address)
        word = FenceWord(name, FenceAddress(second.fence_base, SLOTS).word(7), TOKEN)
        assert producer.call("arm", 7, TOKEN) is None
        consumer.verifier.post("one worker revoked", [consumer.word(7), word])
        assert consumer.verdicts(1) == {"one worker revoked": Verdict.REVOKED}
        assert second.call("arm", 7, TOKEN) is None
        consumer.verifier.post("both armed", [consumer.word(7), word])
        assert consumer.verdicts(1) == {"both armed": Verdict.INTACT}


def test_an_unknown_agent_or_address_fails(consumer: Consumer) -> None:
    consumer.verifier.post("agent", [FenceWord("nobody", consumer.fence.word(0), TOKEN)])
    consumer.verifier.post("address", [FenceWord(consumer.producer_name, consumer.fence.base + SLOTS * 8, TOKEN)])
    assert consumer.verdicts(2) == {"agent": Verdict.FAILED, "address": Verdict.FAILED}
    assert consumer.verifier.retained == 0


def test_a_killed_producer_fails_its_reads(producer: PeerProcess, consumer: Consumer) -> None:
    assert producer.call("arm", 7, TOKEN) is None
    consumer.verifier.post("before", [consumer.word(7)])
    assert consumer.verdicts(1) == {"before": Verdict.INTACT}
    producer.stop()
    for n in range(8):
        consumer.verifier.post(n, [consumer.word(7)])
    producer.kill()
    verdicts = consumer.verdicts(8)
    # Over shared memory a read may have been served before the death; over TCP it needed the producer.
    allowed = {Verdict.FAILED} if OVER_TCP else {Verdict.FAILED, Verdict.INTACT}
    assert set(verdicts.values()) <= allowed

    def fails() -> bool:
        consumer.verifier.post("after", [consumer.word(7)])
        return consumer.verdicts(1) == {"after": Verdict.FAILED}

    wait_until(fails)
    assert consumer.verifier.retained == 0


@pytest.mark.skipif(not OVER_TCP, reason="over shared memory a stopped producer's words can still be read")
def test_a_stopped_producers_reads_are_lost_and_land_where_nobody_looks(producer: PeerProcess) -> None:
    """S1: NIXL keeps a stopped producer's read under way; a word that lands late must not vouch for another read."""
    consumer = Consumer(producer, capacity=2, lost_after_s=0.2)
    assert producer.call("arm", 7, TOKEN) is None
    consumer.verifier.post("before", [consumer.word(7)])
    assert consumer.verdicts(1) == {"before": Verdict.INTACT}
    producer.stop()
    consumer.verifier.post("lost", [consumer.word(7)])
    consumer.verifier.post("aborted", [consumer.word(7)])
    consumer.verifier.forget("aborted")
    consumer.verifier.post("waiting", [consumer.word(7)])
    assert consumer.verdicts(2) == {"lost": Verdict.FAILED, "waiting": Verdict.FAILED}
    producer.order("clear", 7)
    producer.go_on()
    assert producer.answer() is None
    consumer.verifier.post("after", [consumer.word(7)])
    assert consumer.verdicts(1) == {"after": Verdict.REVOKED}
    consumer.verifier.close()


@pytest.mark.skipif(not OVER_TCP, reason="over shared memory reads do not wait for the producer")
def test_a_removed_agents_reads_fail_and_their_words_are_retained(producer: PeerProcess, consumer: Consumer) -> None:
    consumer.verifier.post("before", [consumer.word(7)])
    consumer.verdicts(1)
    producer.stop()
    consumer.verifier.post("r", [consumer.word(7)])
    consumer.agent.remove_remote_agent(consumer.producer_name)
    assert consumer.verdicts(1) == {"r": Verdict.FAILED}
    assert consumer.verifier.retained == 1


@pytest.mark.skipif(not OVER_TCP, reason="over shared memory reads do not wait for the producer")
def test_nixl_lets_a_released_read_land(producer: PeerProcess, consumer: Consumer) -> None:
    """NIXL lets a released read land, so the verifier keeps its word until it ends. It need not, should NIXL change."""
    assert producer.call("arm", 7, TOKEN) is None
    consumer.verifier.post("connects", [consumer.word(7)])
    assert consumer.verdicts(1) == {"connects": Verdict.INTACT}
    landing = RegisteredWords(consumer.agent, 1)
    producer.stop()

    def descs(address: int) -> Any:
        return consumer.agent.get_xfer_descs([(address, 8, 0)], "DRAM")

    handle = consumer.agent.initialize_xfer(
        "READ", descs(landing.address(0)), descs(consumer.fence.word(7)), consumer.producer_name
    )
    assert consumer.agent.transfer(handle) == "PROC"
    consumer.agent.release_xfer_handle(handle)
    assert landing[0] == 0
    producer.go_on()

    def landed() -> bool:
        consumer.agent.get_new_notifs()
        return landing[0] == TOKEN

    wait_until(landed)


def test_all_of_it_over_tcp_only() -> None:
    pass_over_tcp(__file__)
