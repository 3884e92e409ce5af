"""Bugs that are planted in words, slots and tokens, and in what a consumer's worker makes of them."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from kvlease.engine.armed import ArmedWords
from kvlease.engine.known_fences import Admission, KnownFences, Rank, Source
from kvlease.engine.orders import FenceOrders
from kvlease.engine.own_fences import OrderedFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.engine.reads import LeasedReads
from kvlease.fence import FenceWord, Verdict
from kvlease.fence.slots import FenceSlots, Slot
from kvlease.protocol import LeaseRef
from proof.planted.bug import Replacement, honest, planted


@planted("S1", within_runs=10, stands_for="aws-do-eks 84, vllm 21570: reads of released blocks, all HTTP 200")
def no_fence() -> Iterator[Replacement]:
    """A worker does not look at what the fence says: data that has arrived counts as the lease's own."""
    original = honest(LeasedReads, "verify")

    def verify(self: LeasedReads, arrived: Collection[str]) -> dict[str, Verdict]:
        return dict.fromkeys(original(self, arrived), Verdict.INTACT)

    yield LeasedReads, "verify", verify


@planted("S1", within_runs=150, stands_for="TensorRT-LLM: a timeout that races a transfer; protocol, the fence, 3")
def fence_read_before_data() -> Iterator[Replacement]:
    """The fence is read as soon as the data is asked for, and not after it has come."""

    original = honest(LeasedReads, "admit")

    def admit(self: LeasedReads, request_id: str, words: Sequence[FenceWord]) -> None:
        original(self, request_id, words)
        self._verifier.post(request_id, words)
        self.checking.add(request_id)

    def stage(_self: LeasedReads, _request_id: str) -> None:
        """Does nothing: the fence was posted with the read."""

    def verify(self: LeasedReads, arrived: Collection[str]) -> dict[str, Verdict]:
        early: dict[str, Verdict] = self.__dict__.setdefault("early", {})
        early.update((str(request_id), verdict) for request_id, verdict in self._verifier.settle().items())
        verdicts = {request_id: early.pop(request_id) for request_id in sorted(arrived) if request_id in early}
        self.checking -= verdicts.keys()
        return verdicts

    yield LeasedReads, "admit", admit
    yield LeasedReads, "stage", stage
    yield LeasedReads, "verify", verify


@planted("S1", "error", within_runs=10, stands_for="protocol, the fence, 3: only then is the load reported as done")
def used_before_the_verdict() -> Iterator[Replacement]:
    """A request goes on while its fence is still being read."""

    def held_back(_self: LeasedReads, _arrived: Collection[str]) -> set[str]:
        return set()

    yield LeasedReads, "held_back", held_back


@planted("S1", within_runs=1000, stands_for="vllm 52234: a failed receive fails open")
def failed_fence_counts_as_intact() -> Iterator[Replacement]:
    """A fence that cannot be read is taken for one that was found intact."""
    original = honest(LeasedReads, "verify")

    def verify(self: LeasedReads, arrived: Collection[str]) -> dict[str, Verdict]:
        verdicts = original(self, arrived)
        return {name: Verdict.INTACT if verdict is Verdict.FAILED else verdict for name, verdict in verdicts.items()}

    yield LeasedReads, "verify", verify


@planted(
    "L3", within_runs=100, stands_for="vllm 46283, 46289, 54714: a consumer waits for ever for KV that will not come"
)
def card_asked_for_without_end() -> Iterator[Replacement]:
    """A request whose producer is gone is not refused: its worker asks for the card again, and again."""
    original = honest(KnownFences, "admit")

    def admit(
        self: KnownFences,
        request_id: str,
        source: Source,
        ref: LeaseRef,
        ranks: Sequence[Rank],
        come_back: Callable[[], None],
    ) -> Admission:
        admission = original(self, request_id, source, ref, ranks, come_back)
        if admission is Admission.REFUSED:
            return original(self, request_id, source, ref, ranks, come_back)
        return admission

    yield KnownFences, "admit", admit


@planted("S2", "S3", within_runs=50, stands_for="protocol, the fence, 2; MoRIIO: a live read sees reused blocks")
def fence_cleared_after_free() -> Iterator[Replacement]:
    """A worker on another host reports a word as clear and clears it in its next step."""
    original = honest(ArmedWords, "arm")

    def clear(self: ArmedWords, orders: FenceOrders) -> None:
        for slot in orders.clear:
            self.cleared[slot.index] += 1
            self.__dict__.setdefault("late", []).append(slot.index)

    def arm(self: ArmedWords, orders: FenceOrders) -> None:
        for slot in self.__dict__.pop("late", []):
            self._table.clear(slot)
        original(self, orders)

    yield ArmedWords, "clear", clear
    yield ArmedWords, "arm", arm


@planted("S2", "S3", within_runs=10, stands_for="protocol, the fence, 4; vllm 56104: ranks that are not alike")
def one_worker_clears_for_all() -> Iterator[Replacement]:
    """A word that is clear in the first worker counts as clear in all."""

    def clear(self: SharedFences, slot: Slot) -> bool:
        self._tables[0].clear(slot.index)
        return True

    yield SharedFences, "clear", clear


@planted("S2", "S3", within_runs=10, stands_for="vllm 25808: D read before P had registered the expiry")
def armed_after_prefill() -> Iterator[Replacement]:
    """A word is armed when the next prefill is prepared; its own reference may have left by then."""
    original = honest(SharedFences, "arm")

    def arm(self: SharedFences, slot: Slot) -> None:
        late = self.__dict__.get("late")
        self.__dict__["late"] = slot
        if late is not None:
            original(self, late)

    yield SharedFences, "arm", arm


@planted("S3", "error", within_runs=50, stands_for="protocol, the fence, 4: a slot rests until all have cleared it")
def slot_reused_early() -> Iterator[Replacement]:
    """A slot is given out again as soon as its clearing is ordered."""
    original = honest(OrderedFences, "clear")

    def clear(self: OrderedFences, slot: Slot) -> bool:
        original(self, slot)
        return True

    yield OrderedFences, "clear", clear


@planted("S3", within_runs=10, stands_for="vllm 52234: a stale reference returned the previous prompt's answer")
def token_reused() -> Iterator[Replacement]:
    """The token is the number of the slot: the next lease in it has the same."""
    original = honest(FenceSlots, "take")

    def take(self: FenceSlots, request_id: str) -> Slot | None:
        self.draw = lambda: self._free[0] + 1
        return original(self, request_id)

    yield FenceSlots, "take", take


@planted("L1", "L3", within_runs=150, stands_for="vllm 19223, 29906: what is aborted early is never given back")
def aborted_prefill_keeps_its_slot() -> Iterator[Replacement]:
    """The word of a prefill that was aborted is never cleared, and its slot never free again."""

    def abort(_self: ProducerSide, _request_id: str) -> None:
        return None

    yield ProducerSide, "abort", abort


@planted("L2", "L3", within_runs=100, stands_for="vllm 49238: a restarted peer leaves poisoned state behind")
def old_card_kept_for_ever() -> Iterator[Replacement]:
    """A producer's card is kept over its restart: nothing is read from the new one."""
    original = honest(KnownFences, "_learn")

    def learn(self: KnownFences, engine_id: str, fetched: Any) -> None:
        known = self._known.get(engine_id)
        original(self, engine_id, fetched)
        if known is not None:
            self._known[engine_id] = known
            self._replaced.discard(engine_id)

    yield KnownFences, "_learn", learn
