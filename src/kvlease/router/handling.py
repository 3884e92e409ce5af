"""One request's way through the router: carries out the actions of its `RoutedRequest`, and reports what came of them.

What a client leaves behind is let go of, whenever it leaves: the engine's connection is closed, upon which vLLM aborts
the request, and a prefill that nobody will read is released. While a prefill engine computes, its connection is closed
on one side only, so that an offer that was on its way is still seen.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from kvlease.router.bodies import Api, ClientBody, PlainBody
from kvlease.router.clients import JSON, PATIENCE_S, ClientExchange, ClientLeft
from kvlease.router.continuing import StreamContinuation
from kvlease.router.counting import RequestRecord
from kvlease.router.passing import REQUEST_ID, for_client
from kvlease.router.releasing import LeaseReleases
from kvlease.router.streams import Flow, Opening, StreamFailed, error_event, read_answer
from kvlease.router.upstream import EngineAnswer, EngineCall, EngineCallFailed, EngineConnections, SilenceLimit
from kvlease.routing.actions import (
    Action,
    AskDecode,
    AskPrefill,
    BreakOff,
    KvReference,
    PassOn,
    Refuse,
    ReleaseLease,
)
from kvlease.routing.failures import EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget, RetryPolicy
from kvlease.routing.request import RoutedRequest

CANNOT_GO_ON = "the decode engine was lost, and no other one can go on with this answer"
"""The error of a stream that was to be continued, and cannot be."""
ENDS = "the router has ended, and broke this request off"
"""The error of a request that still runs when the router ends."""
SETTLE_S = 0.5
"""The longest wait for the end of an answer whose last event is there, so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class RouterParts:
    """All that the requests of one router share."""

    fleet: EngineFleet
    policy: RetryPolicy
    budget: RetryBudget
    chance: Random
    now: Callable[[], float]
    connections: EngineConnections
    releases: LeaseReleases


class ReadsStream(Protocol):
    """A stream after its first token, as `Flow` and `StreamContinuation` read it."""

    failure: EngineFailure | None

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes and returns what may go to the client."""

    def has_ended(self) -> bool:
        """Tells whether the stream has come to its proper end."""


class RequestHandling:
    """One client's request, from its admission on."""

    def __init__(
        self,
        parts: RouterParts,
        request: RoutedRequest,
        client: ClientExchange,
        body: ClientBody | PlainBody,
        headers: Mapping[str, str],
        record: RequestRecord,
        continuation: StreamContinuation | None = None,
    ) -> None:
        """`headers`: those that engines are sent. `continuation`: of a stream that another engine may go on with."""
        self._parts = parts
        self._request = request
        self._client = client
        self._body = body
        self._headers = headers
        self._record = record
        self._continuation = continuation
        self._task: asyncio.Task[None] | None = None
        self._prefilling: EngineCall | None = None
        self._answer: EngineAnswer | None = None

    async def run(self) -> None:
        """Answers the client."""
        self._task = asyncio.current_task()
        self._client.watch(self._left)
        try:
            await self._follow(self._request.start(self._parts.now()))
        except ClientLeft:
            pass
        except asyncio.CancelledError:
            if not self._client.gone:
                await self._say_end()
                raise
        finally:
            # However it ends, a bug included: the engine is told, and the prefill is released. A no-op after its end.
            self._let_go()
            self._client.unwatch()

    async def _follow(self, actions: Sequence[Action]) -> None:
        while actions:
            answers, asks = [], []
            for action in actions:
                if isinstance(action, ReleaseLease):
                    self._parts.releases.begin(action, self._headers)
                elif isinstance(action, AskPrefill | AskDecode):
                    asks.append(action)
                else:
                    answers.append(action)
            for action in answers:
                await self._answer_by(action)
            actions = ()
            for ask in asks:
                actions = await self._ask(ask)
            if self._client.gone:
                self._let_go()
                return

    def _left(self) -> None:
        """The client has left."""
        if self._prefilling is not None and self._prefilling.hang_up():
            return
        if self._task is not None:
            self._task.cancel()

    async def _say_end(self) -> None:
        """Tells the client that its request is broken off, if it takes that at once."""
        if self._client.ended:
            return
        with contextlib.suppress(ClientLeft, TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                if self._client.started:
                    await self._client.end(error_event(self._body.path, "draining", ENDS))
                else:
                    await self._client.refuse(503, "draining", ENDS, retry_after_s=1)

    def _let_go(self) -> None:
        for action in self._request.client_gone(self._parts.now()):
            if isinstance(action, ReleaseLease):
                self._parts.releases.begin(action, self._headers)

    # -- answers -------------------------------------------------------------------------------------------------

    async def _answer_by(self, action: Action) -> None:
        if isinstance(action, PassOn) and self._answer is not None:
            answer = self._answer
            await self._client.answer(answer.status, self._for_client(answer), answer.body)
        elif isinstance(action, Refuse):
            after = action.retry_after_s
            retry_after_s = None if after is None else max(1, -int(-after // 1))
            await self._client.refuse(action.status, action.kind, action.message, retry_after_s=retry_after_s)
        elif isinstance(action, BreakOff):
            await self._client.end(error_event(self._body.path, action.kind, action.message))

    async def _break_off(self) -> None:
        """Ends a stream which the engine has shown to be one that cannot be continued."""
        self._record.broken()
        self._let_go()
        tail = self._continuation.missing_end() if self._continuation is not None else b""
        await self._client.end(tail or error_event(self._body.path, "engine_lost", CANNOT_GO_ON))

    def _for_client(self, answer: EngineAnswer) -> list[tuple[bytes, bytes]]:
        return for_client(answer.headers, self._headers[REQUEST_ID], len(answer.body))

    # -- calls ---------------------------------------------------------------------------------------------------

    async def _ask(self, action: AskPrefill | AskDecode) -> Sequence[Action]:
        if action.continued and not (self._continuation is not None and self._continuation.can_go_on()):
            await self._break_off()
            return ()
        if action.delay_s > 0.0:
            await asyncio.sleep(action.delay_s)
        with self._parts.connections.call(action.engine) as call, self._record.asking():
            try:
                if isinstance(action, AskPrefill):
                    return await self._ask_prefill(call, action)
                return await self._ask_decode(call, action)
            except EngineCallFailed as failed:
                failure, self._answer = failed.failure, failed.answer
            except StreamFailed as said:
                failure, self._answer = said.failure, _as_answer(said)
        if self._client.gone:
            # It has hung up, and the engine had offered nothing.
            return ()
        return self._request.failed(self._parts.now(), failure, _retry_after_s(self._answer))

    async def _ask_prefill(self, call: EngineCall, action: AskPrefill) -> Sequence[Action]:
        assert isinstance(self._body, ClientBody)
        if action.continued and self._continuation is not None:
            api, body = Api.COMPLETIONS, self._continuation.for_prefill()
        else:
            api, body = self._body.api, self._body.for_prefill()
        self._prefilling = call
        try:
            async with call.within(self._parts.policy.limits.prefill_s):
                answer = await call.whole(api, body, self._headers)
        finally:
            self._prefilling = None
        reference = KvReference.of(read_answer(api, answer.body), action.engine)
        self._record.prefilled()
        if reference is not None and self._body.several and not reference.leased:
            # Each of the answers would read it, and the first that has read it ends a stock offer.
            actions = self._request.prefilled(self._parts.now(), None)
            by = tuple(ask.engine for ask in actions if isinstance(ask, AskDecode))
            return (ReleaseLease(reference, by, action.engine), *actions)
        return self._request.prefilled(self._parts.now(), reference)

    async def _ask_decode(self, call: EngineCall, action: AskDecode) -> Sequence[Action]:
        path, body = self._for_decode(action)
        limits = self._parts.policy.limits
        opening: Opening | None = None
        async with call.within(limits.first_token_s if self._body.stream else limits.whole_answer_s):
            status = await call.begin(path, body, self._headers, self._body.method)
            if status == 200 and call.is_stream and isinstance(path, Api):
                opening = Opening(path)
                while not opening.feed(chunk := await call.chunk()):
                    if not chunk:
                        raise EngineCallFailed(EngineFailure.CUT)
            else:
                answer = await call.good()
                if isinstance(path, Api):
                    read_answer(path, answer.body)
        self._record.began()
        if opening is not None:
            return await self._pump(call, opening, continued=action.continued)
        actions = self._request.finished(self._parts.now())
        await self._client.answer(answer.status, self._for_client(answer), answer.body)
        return actions

    def _for_decode(self, action: AskDecode) -> tuple[str, bytes]:
        if isinstance(self._body, PlainBody):
            return self._body.path, self._body.content
        reference = action.reference
        params = None if reference is None else reference.params
        keep_lease = reference is not None and reference.leased
        if self._continuation is None:
            return self._body.api, self._body.for_decode(params, keep_lease=keep_lease)
        if not action.continued:
            return self._body.api, self._body.for_decode(params, keep_lease=keep_lease, with_ids=True)
        return Api.COMPLETIONS, self._continuation.for_decode(params, keep_lease=keep_lease)

    async def _pump(self, call: EngineCall, opening: Opening, *, continued: bool) -> Sequence[Action]:
        """Passes a stream on, from its first token to its end."""
        actions = self._request.began(self._parts.now())
        if continued and self._continuation is not None:
            self._continuation.resume()
        reads: ReadsStream = self._continuation if self._continuation is not None else Flow(self._body.path)
        if not self._client.started:
            await self._client.start(200, for_client(call.headers, self._headers[REQUEST_ID]))
        limit = SilenceLimit(self._parts.policy.limits.between_tokens_s, PATIENCE_S, call.abort, self._stalled)
        failure = EngineFailure.CUT
        try:
            passed = reads.feed(opening.held())
            while True:
                if passed:
                    limit.client()
                    await self._client.pass_on(passed)
                if reads.failure is not None or reads.has_ended():
                    break
                limit.engine()
                if not (chunk := await call.chunk()):
                    break
                passed = reads.feed(chunk)
        except EngineCallFailed as failed:
            failure = EngineFailure.SILENT if limit.is_silent else failed.failure
        finally:
            limit.stop()
        if reads.failure is None and reads.has_ended():
            await self._client.end()
            actions = (*actions, *self._request.finished(self._parts.now()))
            with contextlib.suppress(EngineCallFailed):
                async with call.within(SETTLE_S):
                    await call.rest()
            return actions
        failure = reads.failure or failure
        call.close()
        return (*actions, *self._request.failed(self._parts.now(), failure))

    def _stalled(self) -> None:
        """The client takes nothing any more."""
        self._client.gone = True
        if self._task is not None:
            self._task.cancel()


def _as_answer(said: StreamFailed) -> EngineAnswer | None:
    """Returns an error that stood in a stream as the answer that it would have been before it began."""
    if said.answer is None:
        return None
    status, body = said.answer
    return EngineAnswer(status, (JSON,), body)


def _retry_after_s(answer: EngineAnswer | None) -> float | None:
    """Returns an answer's `Retry-After` in seconds; None where it has none, or a date."""
    for name, value in answer.headers if answer is not None else ():
        if name.lower() == b"retry-after" and value.strip().isdigit():
            return min(float(value[:20]), 3600.0)
    return None
