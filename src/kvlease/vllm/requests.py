"""vLLM's requests in the terms of the lease's part of an engine's scheduler.

A request of vLLM becomes a name, a prompt and a reference, and an answer of `kvlease.engine` becomes what vLLM is to do
with the request.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.producer import ProducerSide
from kvlease.errors import BadReference, brief
from kvlease.logs import bounded_logger
from kvlease.protocol import LeaseRef
from kvlease.protocol.engine_facts import HandOffEnd, ReferenceMissing, ReferenceRefused, RequestTraced, TellEngine
from kvlease.vllm.params import ON_REJECT, RETURN, side_channel, unusable
from kvlease.vllm.prompts import fingerprint_of, has_siblings, is_answered, parent_of

if TYPE_CHECKING:
    from vllm.v1.request import Request

bounded = bounded_logger(__name__)


class LeasedRequests:
    """Decides on each request as it comes, is scheduled and ends.

    Attributes: `counts`: `refused.bad_reference`, requests since the start whose params would have ended vLLM;
    `refused.long_prefill` and `refused.bad_on_reject`, what routers must not ask for.
    """

    def __init__(
        self, producer: ProducerSide, consumer: ConsumerSide, groups: int | None, tell: TellEngine | None = None
    ) -> None:
        """`groups`: KV cache groups of this engine; None for an engine that reads from other groupings as well. `tell`
        hears facts."""
        self.counts: Counter[str] = Counter()
        self._producer = producer
        self._consumer = consumer
        self._groups = groups
        self._tell = tell

    def arrive(self, request: "Request") -> bool:
        """Takes a new request, before vLLM reads its params. Tells whether vLLM's own mechanism is to see it, too.

        It is not to see a leased request, for which the agent renews from now on: vLLM's heartbeats are for stock
        producers.
        """
        params = request.kv_transfer_params
        if not params:
            return True
        self._vet(request.request_id, params)
        if params.get("do_remote_decode"):
            self._producer.take_on(request.request_id, fingerprint_of(request))
        if not params.get("do_remote_prefill"):
            return True
        if "kv_lease" not in params:
            if self._tell is not None:
                self._tell(ReferenceMissing(request.request_id))
            return True
        self._trace(request)
        if self._take_on(request, params):
            return False
        # Another prompt was computed elsewhere, so this one is computed here.
        params["do_remote_prefill"] = False
        return True

    def _vet(self, request_id: str, params: dict[str, object]) -> None:
        """Changes params, which any client may write, that would end vLLM: such a request is computed here."""
        if params.get("do_remote_decode") and params.get("remote_block_ids"):
            # vLLM's transfer back from a decode engine is not supported: nobody would ever read the blocks.
            params["remote_block_ids"] = None
        if params.get("do_remote_prefill") and (why := unusable(params, self._groups)) is not None:
            self.counts["refused.bad_reference"] += 1
            bounded.warning("kvlease: request %s: %s; it is computed here", brief(request_id), why)
            if self._tell is not None:
                self._tell(ReferenceRefused(request_id, "bad_reference", why))
            params["do_remote_prefill"] = False

    def _trace(self, request: "Request") -> None:
        # vLLM hands headers over only where it exports traces.
        if self._tell is not None and request.trace_headers:
            self._tell(RequestTraced(request.request_id, dict(request.trace_headers)))

    def _take_on(self, request: "Request", params: dict[str, object]) -> bool:
        """Takes a request with a reference. Returns False if that is another prompt's: the request is computed here."""
        request_id = request.request_id
        try:
            ref, endpoint = LeaseRef.from_params(params["kv_lease"]), side_channel(params)
        except BadReference as e:
            self._consumer.refuse(request_id, str(e))
            return True
        siblings = has_siblings(request_id)
        if request.abort_immediately:
            # This is how vLLM lets go of a prefill whose request it refused: its prompt is one token, nothing is read.
            if self._is_to_return(request_id, params):
                self._consumer.hand_back(request_id, ref)
                # Neither vLLM's own mechanism nor a worker is to tell the producer.
                params["do_remote_prefill"] = False
            else:
                self._consumer.keep(request_id, ref, endpoint, siblings)
            return True
        return self._consumer.take_on(request_id, fingerprint_of(request), ref, endpoint, siblings)

    def _is_to_return(self, request_id: str, params: dict[str, object]) -> bool:
        """Tells whether the router wants the lease of a refused request left to another engine."""
        asked = params.get(ON_REJECT)
        if asked == RETURN:
            return True
        if asked is not None:
            self.counts["refused.bad_on_reject"] += 1
            bounded.warning(
                'kvlease: request %s: kv_lease_on_reject is %s, it must be "return" or left out; its lease is dropped',
                brief(request_id),
                brief(asked),
            )
        return False

    def schedule(self, request: "Request", external_tokens: int) -> bool:
        """The request has its blocks. Returns True if it is leased and has all its data, so that nothing is to be read.

        In that case no worker has to tell the producer, either: the agent does.
        """
        request_id = request.request_id
        if (request.kv_transfer_params or {}).get("do_remote_decode"):
            self._producer.prepare(request_id)
        if external_tokens or not self._consumer.has(request_id):
            return False
        self._consumer.release(request_id, HandOffEnd.LOCAL)
        return True

    def end_unread(self, request: "Request") -> None:
        """A request is over. If it was never read, its lease is dropped here, and no worker has to tell the producer.

        A request that ends while it is being read keeps its lease until the workers have finished.
        """
        params = request.kv_transfer_params or {}
        if self._consumer.has(request.request_id) and params.get("do_remote_prefill"):
            self._consumer.release(request.request_id)
            params["do_remote_prefill"] = False

    def grant(self, request: "Request", offered: "Sequence[Sequence[int]]") -> LeaseRef | None:
        """Returns the reference of a prefill that is done; None where it has no lease, or nobody is told of it.

        `offered`: the ids of the blocks that are to be read, by KV cache group.
        """
        if not is_answered(request) or self._went_on(request):
            self._producer.abort(request.request_id)
            return None
        self._trace(request)
        # Block 0 stands for blocks that a sliding window has let go of. None is counted twice.
        blocks = list(dict.fromkeys(block for group in offered for block in group if block))
        return self._producer.finish(request.request_id, blocks, parent_of(request))

    def _went_on(self, request: "Request") -> bool:
        """Tells whether more than the prompt was computed, as with `max_tokens` above 1; then nothing is offered.

        vLLM's decode engines pair blocks from the end: with one more than the prompt has, each would be taken for its
        neighbour, and no fence could tell.
        """
        went_on: bool = request.num_computed_tokens > request.num_prompt_tokens
        if went_on:
            self.counts["refused.long_prefill"] += 1
            bounded.warning(
                "kvlease: request %s went on beyond its prompt, so its prefill is not offered; a router has to prefill "
                "with max_tokens 1",
                brief(request.request_id),
            )
        return went_on

    def abort(self, request: "Request") -> None:
        """Nobody will be told of what was computed for this request; a no-op where it has no lease."""
        self._producer.abort(request.request_id)
