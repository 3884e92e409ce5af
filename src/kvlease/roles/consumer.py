"""A consumer's scheduler: which requests read leased blocks, and which must not."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from kvlease.agent.core import AgentCore
from kvlease.errors import BadReference
from kvlease.logs import bounded_logger
from kvlease.protocol import Endpoint, Fingerprint, LeaseRef
from kvlease.protocol.lease import brief
from kvlease.roles.params import unusable

if TYPE_CHECKING:
    from vllm.v1.request import Request

bounded = bounded_logger(__name__)

_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,255}")
"""A name, or an IPv4 or IPv6 address: nothing that means more to ZeroMQ, or to whoever reads a log."""


class ConsumerSide:
    """Has the leases of waiting requests renewed from the moment the scheduler knows them (R8), until they are read."""

    def __init__(
        self, agent: AgentCore, fingerprint: "Callable[[Request], Fingerprint]", compares_media: bool = True
    ) -> None:
        """`fingerprint` says what a request's prompt is, before anything of it is cut. `compares_media`: False where
        decode engines are given stand-ins for images (`LeaseConfig.compare_media`)."""
        self.bad_references = 0
        """Requests since the start whose reference could not be read."""
        self.other_prompts: Counter[str] = Counter()
        """Requests since the start whose reference was made for another prompt, by what differs:
        length, content or media."""
        self.released = 0
        """Leased requests that were loaded, or ended without."""
        self._agent = agent
        self._fingerprint = fingerprint
        self._compares_media = compares_media
        self._refs: dict[str, LeaseRef | None] = {}
        """Leased requests that are not loaded yet; None for one whose reference cannot be read."""
        self._lost: set[str] = set()

    @property
    def waiting(self) -> int:
        """Leased requests that are not loaded yet."""
        return len(self._refs)

    def has(self, request_id: str) -> bool:
        return request_id in self._refs

    def vet(self, request: "Request", groups: int | None) -> None:
        """Before anything else looks at a new request: one whose params the engine could not bear is computed here.

        `groups`: KV cache groups of this engine; None for one that reads from others' groupings as well.
        """
        params = request.kv_transfer_params
        if not params:
            return
        if params.get("do_remote_decode") and params.get("remote_block_ids"):
            # vLLM's way back from a decode engine, which is not supported: nobody would ever read them.
            params["remote_block_ids"] = None
        if params.get("do_remote_prefill") and (why := unusable(params, groups)) is not None:
            self.bad_references += 1
            bounded.warning("kvlease: request %s: %s; it is computed here", brief(request.request_id), why)
            params["do_remote_prefill"] = False

    def take_on(self, request: "Request", reads: bool = True) -> bool:
        """Track the lease of a new request. One that does not read comes only to let go of it, whatever its prompt is.

        False when it has none, and the stock mechanism applies (R9); or when its lease is another prompt's, and it can
        be computed here, with no mechanism at all (R35).
        """
        params = request.kv_transfer_params
        if not params or not params.get("do_remote_prefill") or "kv_lease" not in params:
            return False
        if request.request_id in self._refs:
            # Named twice: what it is known by stays, or the lease of its first reference would be kept for ever.
            return True
        try:
            ref, endpoint = LeaseRef.from_params(params["kv_lease"]), _endpoint(params)
        except BadReference as e:
            # Without its fence nothing is read. The request goes down the load-failure path, which is sure to be right.
            self.bad_references += 1
            bounded.warning("kvlease: request %s: %s; its prefill will not be read", brief(request.request_id), e)
            self._refs[request.request_id] = None
        else:
            prompt = self._fingerprint(request) if reads else ref.prompt
            if differs := self._difference(prompt, ref.prompt):
                return self._turn_away(request, prompt, ref.prompt, differs)
            self._refs[request.request_id] = ref
            self._agent.track(request.request_id, ref, endpoint)
        return True

    def _difference(self, own: Fingerprint, computed: Fingerprint) -> str | None:
        """Between a request's prompt and what was computed; None where they are the same."""
        if own.tokens != computed.tokens:
            return "length"
        if own.digest != computed.digest:
            return "content"
        return "media" if self._compares_media and own.media != computed.media else None

    def _turn_away(self, request: "Request", own: Fingerprint, computed: Fingerprint, differs: str) -> bool:
        """What was computed is not this request's prompt. `take_on`'s answer.

        The lease is left alone: whom it was made for may still come. Tokens can be computed here. Where either has
        images or the like, this engine may have been given stand-ins for them, or none, never having been meant to need
        them (Dynamo's `construct_qwen_decode_mm_data`): what it would compute is wrong, and its load-failure policy
        decides.
        """
        self.other_prompts[differs] += 1
        computable = not own.media and not computed.media
        outcome = "it is computed here" if computable else "its prefill will not be read"
        if differs == "media":
            outcome += ". If this engine is given stand-ins for images, set kv_lease_compare_media to false"
        bounded.warning(
            "kvlease: request %s has the reference to a prefill of another prompt (%d tokens, its own has %d; they "
            "differ in %s); %s",
            brief(request.request_id), computed.tokens, own.tokens, differs, outcome,
        )  # fmt: skip
        if not computable:
            self._refs[request.request_id] = None
            return True
        assert request.kv_transfer_params is not None
        request.kv_transfer_params["do_remote_prefill"] = False
        return False

    def release(self, request_id: str) -> None:
        """The data is here, or nobody wants it any more; a no-op for a request that is not leased."""
        if request_id not in self._refs:
            return
        if self._refs.pop(request_id) is not None:
            self._agent.untrack(request_id)
        self._lost.discard(request_id)
        self.released += 1

    def begin(self, request_ids: Collection[str]) -> tuple[dict[str, LeaseRef], frozenset[str]]:
        """Of the requests to be read now: the references of the leased ones, and those that must not be read at all."""
        lost = self._agent.take_lost()
        if not request_ids and not lost:
            return {}, frozenset()
        self._lost.update(holder for holder in lost if holder in self._refs)
        reads: dict[str, LeaseRef] = {}
        hopeless: set[str] = set()
        for request_id in request_ids:
            if request_id not in self._refs:
                continue
            ref = self._refs[request_id]
            if ref is None or request_id in self._lost:
                hopeless.add(request_id)
            else:
                reads[request_id] = ref
        return reads, frozenset(hopeless)


def _endpoint(params: Mapping[str, object]) -> Endpoint:
    """The producer's side channel. Raises `BadReference`."""
    host, port = params.get("remote_host"), params.get("remote_port")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise BadReference(f"remote_host is {brief(host)}, it must be the host name or address of the producer")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise BadReference(f"remote_port is {brief(port)}, it must be a port number from 1 to 65535")
    return host, port
