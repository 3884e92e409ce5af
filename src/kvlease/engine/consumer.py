"""The lease's part of a consumer's scheduler, which decides on the requests that read leased blocks."""

from collections import Counter
from collections.abc import Collection

from kvlease.engine.ports import LeaseDesk
from kvlease.errors import brief
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, Fingerprint, LeaseRef
from kvlease.protocol.engine_facts import HandOffEnd, HandOffEnded, ReferenceRefused, TellEngine

bounded = bounded_logger(__name__)


class ConsumerSide:
    """Has the leases of requests renewed from the moment the scheduler knows them (R8) until they are read.

    Attributes: `bad_references`: requests since the start whose reference could not be read. `other_prompts`: requests
    since the start whose reference was made for another prompt, by what differs: length, content or media.
    `released`: leased requests that were loaded, or ended before. `returned`: refused requests since the start whose
    lease was left to another engine. `wasted_tokens`: tokens of prompts since the start
    whose prefill elsewhere was not used, by reason; each request is counted once.
    """

    def __init__(self, desk: LeaseDesk, compares_media: bool = True, tell: TellEngine | None = None) -> None:
        """`compares_media`: False where decode engines are given stand-ins for images (`LeaseConfig.compare_media`).
        `tell` hears facts."""
        self.bad_references = 0
        self.other_prompts: Counter[str] = Counter()
        self.released = 0
        self.returned = 0
        self.wasted_tokens: Counter[str] = Counter()
        self._wasted: set[str] = set()
        """The requests not loaded yet that are counted there."""
        self._desk = desk
        self._compares_media = compares_media
        self._tell = tell
        self._refs: dict[str, LeaseRef | None] = {}
        """The lease of each leased request that is not loaded yet; None for a request that must not be read."""
        self._lost: set[str] = set()

    @property
    def waiting(self) -> int:
        """The number of leased requests that are not loaded yet."""
        return len(self._refs)

    @property
    def lost(self) -> frozenset[str]:
        """The leased requests not loaded yet whose lease is known to be lost."""
        return frozenset(self._lost)

    def has(self, request_id: str) -> bool:
        """Tells whether the request is leased and not loaded yet."""
        return request_id in self._refs

    def ref(self, request_id: str) -> LeaseRef | None:
        """Returns the lease that a request waits for; None for a request that has none, or that must not be read."""
        return self._refs.get(request_id)

    def take_on(
        self, request_id: str, prompt: Fingerprint, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False
    ) -> bool:
        """Takes a new request with the reference to a prefill elsewhere. `endpoint`: that producer's side channel.

        Returns False if another prompt was computed: the request is to be computed here, as one without a prefill
        (R35). Returns True otherwise: its lease is kept, or its load will fail.
        """
        differs = self._difference(prompt, ref.prompt)
        if differs is not None:
            return self._turn_away(request_id, prompt, ref, differs)
        self.keep(request_id, ref, endpoint, siblings)
        return True

    def keep(self, request_id: str, ref: LeaseRef, endpoint: Endpoint, siblings: bool = False) -> None:
        """Keeps the lease until the request is released, whatever its prompt is; a no-op for a request named twice."""
        # The first reference counts, or its lease would be kept for ever.
        if request_id not in self._refs:
            self._refs[request_id] = ref
            self._desk.track(request_id, ref, endpoint, siblings)

    def refuse(self, request_id: str, why: str) -> None:
        """Refuses a request with an unusable reference: without its fence nothing is read, and its load will fail."""
        if request_id in self._refs:
            return
        self.bad_references += 1
        bounded.warning("kvlease: request %s: %s; its prefill will not be read", brief(request_id), why)
        if self._tell is not None:
            self._tell(ReferenceRefused(request_id, "bad_reference", why))
        self._refs[request_id] = None

    def hand_back(self, request_id: str, ref: LeaseRef) -> None:
        """Leaves the lease of a request that this engine refused to another engine: it is neither claimed nor
        dropped, so that whatever keeps it, its term or a claim, keeps it on."""
        self.returned += 1
        if self._tell is not None:
            self._tell(HandOffEnded(request_id, ref.token, HandOffEnd.RETURNED))

    def _difference(self, own: Fingerprint, computed: Fingerprint) -> str | None:
        """Returns how a request's prompt differs from what was computed; None where they are the same."""
        if own.tokens != computed.tokens:
            return "length"
        if own.digest != computed.digest:
            return "content"
        return "media" if self._compares_media and own.media != computed.media else None

    def _turn_away(self, request_id: str, own: Fingerprint, ref: LeaseRef, differs: str) -> bool:
        """Decides on a request for which another prompt was computed; returns what `take_on` is to return.

        The lease is left alone, since the request that it was made for may still come. A prompt of tokens alone can be
        computed here. Where either prompt has images or the like, this engine may have been given stand-ins for them,
        or none, since it was not meant to need them (Dynamo's `construct_qwen_decode_mm_data`): it would compute
        something wrong, so its load-failure policy decides.
        """
        if request_id in self._refs:
            return True
        computed = ref.prompt
        self.other_prompts[differs] += 1
        computable = not own.media and not computed.media
        outcome = "it is computed here" if computable else "its prefill will not be read"
        if differs == "media":
            outcome += ". If this engine is given stand-ins for images, set kv_lease_compare_media to false"
        bounded.warning(
            "kvlease: request %s has the reference to a prefill of another prompt (%d tokens, its own has %d; they "
            "differ in %s); %s",
            brief(request_id), computed.tokens, own.tokens, differs, outcome,
        )  # fmt: skip
        if self._tell is not None:
            detail = f"{computed.tokens} tokens were computed, the request has {own.tokens}"
            self._tell(ReferenceRefused(request_id, differs, detail, ref.token))
        if not computable:
            self._refs[request_id] = None
        return not computable

    def release(self, request_id: str, end: HandOffEnd = HandOffEnd.OVER) -> None:
        """The request has its data, or nobody wants it any more; a no-op for a request that is not leased."""
        if request_id not in self._refs:
            return
        ref = self._refs.pop(request_id)
        if ref is not None:
            self._desk.untrack(request_id)
        if self._tell is not None:
            self._tell(HandOffEnded(request_id, None if ref is None else ref.token, end))
        self._lost.discard(request_id)
        self._wasted.discard(request_id)
        self.released += 1

    def waste(self, request_id: str, reason: str) -> None:
        """The prefill of this request is not used; a no-op for one that is known, and for one that is not leased."""
        ref = self._refs.get(request_id)
        if ref is not None and request_id not in self._wasted:
            self._wasted.add(request_id)
            self.wasted_tokens[reason] += ref.prompt.tokens

    def begin(self, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        """Takes the requests to be read now; returns the references of the leased ones, and those not to be read."""
        lost = self._desk.take_lost()
        if not request_ids and not lost:
            return {}, frozenset()
        self._lost.update(holder for holder in lost if holder in self._refs)
        reads: dict[str, LeaseRef] = {}
        unreadable: set[str] = set()
        for request_id in request_ids:
            if request_id not in self._refs:
                continue
            ref = self._refs[request_id]
            if ref is None or request_id in self._lost:
                unreadable.add(request_id)
                self.waste(request_id, "lost")
            else:
                reads[request_id] = ref
        return reads, frozenset(unreadable)
