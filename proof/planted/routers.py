"""Bugs that are planted in the core of kvlease's router."""

from collections.abc import Iterator
from typing import Any

from kvlease.routing import breaker, tries
from kvlease.routing.actions import Action, ReleaseLease
from kvlease.routing.engines import EngineRole
from kvlease.routing.facts import Recompute
from kvlease.routing.failures import FAILURES, EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.request import RoutedRequest
from kvlease.routing.tries import NextCall, RequestTries
from proof.planted.bug import Replacement, honest, planted


def _without_releases(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    return tuple(action for action in actions if not isinstance(action, ReleaseLease))


@planted(
    "fenced", within_runs=200, routed=True, stands_for="vllm 52234: a stale reference returned another prompt's answer"
)
def unleased_reference_sent_again() -> Iterator[Replacement]:
    """A reference without a lease goes to a second engine, though a first one may have seen it."""
    original = honest(RequestTries, "_decode_again")

    def decode_again(self: RequestTries, now: float) -> NextCall | None:
        assert self.reference is not None
        return original(self, now) if self.reference.leased else self._decode(now, None)

    yield RequestTries, "_decode_again", decode_again


@planted("fenced", within_runs=500, routed=True, stands_for="stock NixlConnector: a D that reads without a fence")
def stock_reader_after_a_failure() -> Iterator[Replacement]:
    """A reference that an engine may have seen goes to any D, also to one that reads without a fence."""
    original = honest(EngineFleet, "choose_decode")

    def choose_decode(self: EngineFleet, now: float, chance: Any, **more: Any) -> str | None:
        return original(self, now, chance, **{**more, "fenced": False})

    yield EngineFleet, "choose_decode", choose_decode


@planted(
    "freed",
    within_runs=250,
    routed=True,
    struck=True,
    stands_for="llm-d operations guide: a request that dies in the router strands blocks",
)
def given_up_and_not_released() -> Iterator[Replacement]:
    """A request that is given up, since its tries or the budget are used up, leaves its lease to the term."""
    original = honest(RoutedRequest, "_give_up")

    def give_up(self: RoutedRequest, *arguments: Any) -> tuple[Action, ...]:
        return _without_releases(original(self, *arguments))

    yield RoutedRequest, "_give_up", give_up


@planted(
    "freed",
    within_runs=1500,
    routed=True,
    struck=True,
    stands_for="vllm 41269, 19223, 29906: what is aborted early is never given back",
)
def gone_client_not_released() -> Iterator[Replacement]:
    """A client that leaves between prefill and first token leaves its lease to the term."""
    original = honest(RoutedRequest, "client_gone")

    def client_gone(self: RoutedRequest, now: float) -> tuple[Action, ...]:
        return _without_releases(original(self, now))

    yield RoutedRequest, "client_gone", client_gone


@planted(
    "one end",
    within_runs=200,
    routed=True,
    struck=True,
    stands_for="the router: after the first byte a stream goes on only where it can",
)
def stream_sent_again_from_the_start() -> Iterator[Replacement]:
    """A stream that was cut is sent again though its client has tokens, and nobody may continue it."""

    def continuation(self: RoutedRequest, now: float, call: Any, failure: EngineFailure) -> NextCall | None:
        self._tries = self._new_tries()
        self._tries.failed(call.role, call.engine, failure)
        return self._tries.first(now)

    yield RoutedRequest, "_continuation", continuation


@planted(
    "answered",
    within_runs=300,
    routed=True,
    struck=True,
    stands_for="vLLM's toy proxy: whoever has failed is asked again",
)
def failed_engine_asked_again() -> Iterator[Replacement]:
    """The reference goes back to the D that has just failed, as long as nothing says that it is dead."""
    original = honest(RequestTries, "_decoder")

    def decoder(self: RequestTries, now: float, **more: Any) -> str | None:
        url = original(self, now, **more)
        tried = [each for each in self._fleet.living(now, EngineRole.DECODE) if each in self._tried]
        return tried[0] if tried and url is not None else url

    yield RequestTries, "_decoder", decoder


@planted(
    "breaker",
    within_runs=200,
    routed=True,
    stands_for="vllm-project/router 148: one client's mistakes shut all engines",
)
def errors_alone_open_the_breaker() -> Iterator[Replacement]:
    """Three answers with 500 shut an engine, though it lives and says why."""
    opens = {**FAILURES, EngineFailure.ERROR: FAILURES[EngineFailure.ERROR]._replace(opens=True)}
    yield breaker, "FAILURES", opens


@planted(
    "passed on",
    within_runs=500,
    routed=True,
    struck=True,
    stands_for="the router: a 4xx is the answer to this client everywhere",
)
def refused_request_sent_elsewhere() -> Iterator[Replacement]:
    """A request that an engine has refused with a 4xx is sent to the others as well."""
    rule = FAILURES[EngineFailure.REFUSED]
    yield tries, "FAILURES", {**FAILURES, EngineFailure.REFUSED: rule._replace(retried=True)}


@planted(
    "computed once",
    within_runs=100,
    routed=True,
    stands_for="llm-d, Dynamo: a request whose D is gone is prefilled again",
)
def prefilled_again_though_readable() -> Iterator[Replacement]:
    """A request whose D has failed is prefilled again, though another D could read what was computed."""

    def decode_again(self: RequestTries, now: float) -> NextCall | None:
        return self._compute(now, Recompute.UNFENCED)

    yield RequestTries, "_decode_again", decode_again


@planted(
    "bounded",
    within_runs=25,
    routed=True,
    stands_for="Finagle's and gRPC's retry budgets: retries bury what is overloaded",
)
def tries_not_counted() -> Iterator[Replacement]:
    """A request is sent to one engine after the other as long as there are any."""
    original = honest(RequestTries, "take")

    def take(self: RequestTries, step: NextCall) -> None:
        original(self, step)
        self._asked[step.role] = 0
        self._useless.clear()

    yield RequestTries, "take", take


@planted(
    "counted",
    within_runs=25,
    routed=True,
    stands_for="the router: a call counts in the fleet, whatever way it ends",
)
def call_of_a_gone_client_counted_for_ever() -> Iterator[Replacement]:
    """The call of a client that has left counts as under way for ever, and its engine as loaded."""

    def abandoned(_self: EngineFleet, _url: str, _trial: bool) -> None:
        return None

    yield EngineFleet, "abandoned", abandoned
