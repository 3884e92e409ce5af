"""The admin core: answers an operator's questions about one engine, in its scheduler's process.

A question and its answer are bytes, so that any door can carry them: the engine's API server, the agent's own listener,
and a connector's `on_rpc` (vllm 51639). Any thread may ask, and none is waited for: an answer is a future, which the
agent's thread completes within a turn. So no step of the engine waits for an operator, or pays for one.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import msgspec

from kvlease.admin.answers import Drain, ErrorDetail, Released
from kvlease.admin.health import EngineProfile, health_of
from kvlease.admin.listing import Listing
from kvlease.admin.questions import (
    DrainOrder,
    DrainQuestion,
    HealthQuestion,
    LeasesFound,
    LeasesQuestion,
    Questions,
    RankAnswer,
    ReleaseOrder,
    SessionsQuestion,
    TokenQuestion,
    TokensFound,
    read_question,
)
from kvlease.admin.unheard import UnheardLeases
from kvlease.agent.core import AgentCore
from kvlease.engine.producer import ProducerSide
from kvlease.errors import AgentGone
from kvlease.protocol import Cause, LeaseState, Peer

T = TypeVar("T")
KINDS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "Unavailable",
}
"""The types of errors, by HTTP status."""


class Refused(Exception):
    """A question has no answer but this error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(message, KINDS[status], status)


class AdminCore:
    """Answers questions about one engine, and carries an operator's orders out."""

    def __init__(
        self,
        agent: AgentCore,
        producer: ProducerSide,
        unheard: UnheardLeases,
        profile: EngineProfile,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: the agent's."""
        self._agent = agent
        self._producer = producer
        self._unheard = unheard
        self._profile = profile
        self._clock = clock
        self._began_at = clock()
        self._listing = Listing(profile.rank, producer, profile.block_bytes, clock)

    def answer(self, payload: bytes) -> "Future[bytes]":
        """Returns the future of a `RankAnswer` as JSON to a `questions.Questions` as JSON. It raises nothing."""
        out: Future[bytes] = Future()
        # Whoever gives up waiting cancels no answer, for which the agent's thread would find no taker.
        out.set_running_or_notify_cancel()
        try:
            question = read_question(payload)
        except (ValueError, RecursionError) as e:
            # What msgspec raises are ValueErrors.
            out.set_result(self._refused(Refused(400, f"this is no question: {e}")))
        else:
            self._ask(question).add_done_callback(lambda done: out.set_result(self._answered(done)))
        return out

    def _answered(self, done: "Future[object]") -> bytes:
        error = done.exception()
        if error is None:
            return self._encoded(200, done.result())
        if isinstance(error, Refused):
            return self._refused(error)
        # A bug of ours: whoever asked is to hear of it, and the engine goes on.
        return self._refused(Refused(500, f"a bug of kvlease: {type(error).__name__}: {error}"))

    def _refused(self, error: Refused) -> bytes:
        return self._encoded(error.status, error.detail)

    def _encoded(self, status: int, answer: object) -> bytes:
        return msgspec.json.encode(RankAnswer(self._profile.rank, status, msgspec.Raw(msgspec.json.encode(answer))))

    def _ask(self, question: Questions) -> "Future[object]":
        match question:
            case HealthQuestion():
                return self._look(self._health)
            case LeasesQuestion():
                return self._look(partial(self._leases, question))
            case SessionsQuestion():
                return self._look(self._listing.sessions)
            case TokenQuestion(prefix):
                return self._look(partial(_tokens, prefix))
            case ReleaseOrder(token):
                return self._release(int(token, 16))
            case DrainOrder(draining):
                self._producer.draining = draining
                return _known(self._drain())
            case DrainQuestion():
                return _known(self._drain())

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self, question: Callable[[Peer], object]) -> "Future[object]":
        """Has the agent's thread look at its state. Where that has ended nobody changes it, so any thread may look."""
        out: Future[object] = Future()

        def take(done: "Future[object]") -> None:
            try:
                out.set_result(question(self._agent.peer) if _is_gone(done) else done.result())
            except Exception as e:  # noqa: BLE001 - it is raised again where the answer is taken
                out.set_exception(e)

        self._agent.ask(question).add_done_callback(take)
        return out

    def _health(self, peer: Peer) -> object:
        uptime_s = self._clock() - self._began_at
        return health_of(peer, self._agent, self._producer, self._unheard.sizes, self._profile, uptime_s)

    def _leases(self, question: LeasesQuestion, peer: Peer) -> LeasesFound:
        entries, numbers, more, total = self._listing.leases(peer, question)
        return LeasesFound([msgspec.Raw(msgspec.json.encode(entry)) for entry in entries], numbers, more, total)

    # -- orders --------------------------------------------------------------------------------------------------

    def _drain(self) -> Drain:
        left = self._producer.left
        if left and self._agent.died_at is not None:
            # A dead agent wakes nobody, and an engine takes its leases back in its steps.
            self._agent.ask_for_step()
        return Drain(self._producer.draining, left)

    def _release(self, token: int) -> "Future[object]":
        """Revokes a lease; the answer comes when the lessor has heard of that.

        The order is given from within a question, so a later one is answered in a turn that has taken it.
        """
        out: Future[object] = Future()

        def ordered(done: "Future[None]") -> None:
            if (error := _refusal(done)) is not None:
                out.set_exception(error)
            else:
                self._agent.ask(partial(_outcome, token)).add_done_callback(settled)

        def settled(done: "Future[Released]") -> None:
            if (error := _refusal(done)) is not None:
                out.set_exception(error)
            else:
                out.set_result(done.result())

        def order(peer: Peer) -> None:
            _find_held(token, peer)
            self._agent.revoke(token)

        self._agent.ask(order).add_done_callback(ordered)
        return out


def _known(answer: T) -> "Future[object]":
    future: Future[object] = Future()
    future.set_result(answer)
    return future


def _is_gone(done: "Future[object]") -> bool:
    return isinstance(done.exception(), AgentGone)


def _refusal(done: "Future[T]") -> BaseException | None:
    error = done.exception()
    if not isinstance(error, AgentGone):
        return error
    return Refused(
        503,
        "the lease agent of this engine has ended, so nobody ends its leases one by one. The engine takes all of them "
        "back one term after its agent's death; restart it when convenient",
    )


def _tokens(prefix: str, peer: Peer) -> TokensFound:
    whole = (f"{token:016x}" for token in peer.lessor.leases)
    found = (token for token in whole if token.startswith(prefix))
    return TokensFound([token for token, _ in zip(found, range(2), strict=False)])


def _find_held(token: int, peer: Peer) -> None:
    lease = peer.lessor.leases.get(token)
    if lease is None:
        raise Refused(404, "no such lease here; it may have ended")
    if lease.state is LeaseState.LAPSED:
        raise Refused(409, f"the lease is over already ({lease.cause}): it holds nothing, its blocks are free")


def _outcome(token: int, peer: Peer) -> Released:
    lease = peer.lessor.leases.get(token)
    if lease is not None and lease.cause is not Cause.REVOKED:
        raise Refused(409, f"the lease was over before ({lease.cause}): it holds nothing, its blocks are free")
    return Released(True)
