"""A request between engines that fail as a test says: the driver's part, without any I/O."""

from collections.abc import Sequence
from random import Random

from kvlease.routing.actions import Action, AskDecode, AskPrefill, KvReference, ReleaseLease
from kvlease.routing.engines import EngineReport, EngineRole, FleetSettings
from kvlease.routing.facts import RouterFact
from kvlease.routing.failures import EngineFailure
from kvlease.routing.fleet import EngineFleet
from kvlease.routing.policy import RetryBudget, RetryPolicy
from kvlease.routing.request import RoutedRequest

P1, P2, D1, D2, D3 = "http://p1", "http://p2", "http://d1", "http://d2", "http://d3"
NO_LOAD = EngineReport()


def offer(producer: str = P1, *, leased: bool = True) -> KvReference:
    """A prefill engine's offer, of kvlease or of stock."""
    params: dict[str, object] = {"do_remote_prefill": True, "remote_block_ids": [1, 2]}
    if leased:
        params["kv_lease"] = {"token": "00000000000000ab"}
    reference = KvReference.of(params, producer)
    assert reference is not None
    return reference


def fleet_of(
    decode: Sequence[str] = (D1, D2),
    prefill: Sequence[str] = (P1, P2),
    *,
    leased: bool | None = True,
    settings: FleetSettings | None = None,
) -> EngineFleet:
    """A fleet that has joined at 0, whose decode engines are chosen in this order."""
    fleet = EngineFleet(settings)
    for url in prefill:
        fleet.join(0.0, url, EngineRole.PREFILL, leased)
    for number, url in enumerate(decode):
        fleet.join(0.0, url, EngineRole.DECODE, leased)
        fleet.report(0.0, url, EngineReport(running=number * 10))
    return fleet


class FactCounts:
    """The facts that requests have told."""

    def __init__(self) -> None:
        self._facts: list[RouterFact] = []

    def hear(self, fact: RouterFact) -> None:
        self._facts.append(fact)

    def total(self, kind: type[RouterFact], **fields: str) -> int:
        """The number of facts of a kind with these values."""
        return sum(
            isinstance(fact, kind) and all(getattr(fact, name) == value for name, value in fields.items())
            for fact in self._facts
        )


class RequestBench:
    """One request, and the newest actions that it asked for."""

    def __init__(
        self,
        fleet: EngineFleet | None = None,
        policy: RetryPolicy | None = None,
        *,
        prefill: bool = True,
        continuable: bool = False,
        keys: Sequence[bytes] = (),
    ) -> None:
        self.fleet = fleet or fleet_of()
        self.policy = policy or RetryPolicy()
        self.counts = FactCounts()
        self.now = 1.0
        self.budget = RetryBudget(self.policy, 0.0)
        self.request = RoutedRequest(
            self.fleet,
            self.policy,
            self.budget,
            Random(1),
            keys=keys,
            prefill=prefill,
            continuable=continuable,
            tell=self.counts.hear,
        )
        self.actions: tuple[Action, ...] = ()
        self.asked: list[AskPrefill | AskDecode] = []
        self.reference: KvReference | None = None

    def start(self) -> "RequestBench":
        return self._took(self.request.start(self.now))

    def prefilled(self, reference: KvReference | None) -> "RequestBench":
        self.reference = reference
        return self._took(self.request.prefilled(self.now, reference))

    def decoding(self, *, leased: bool = True) -> "RequestBench":
        """Goes on until a decode engine is asked for the first time."""
        return self.start().prefilled(offer(leased=leased))

    def streaming(self) -> "RequestBench":
        """Goes on until the client has a token."""
        self.decoding()
        return self._took(self.request.began(self.now))

    def failed(self, *failures: EngineFailure, retry_after_s: float | None = None) -> "RequestBench":
        for failure in failures:
            self._took(self.request.failed(self.now, failure, retry_after_s))
        return self

    def began(self) -> "RequestBench":
        return self._took(self.request.began(self.now))

    def finished(self) -> "RequestBench":
        return self._took(self.request.finished(self.now))

    def client_gone(self) -> "RequestBench":
        return self._took(self.request.client_gone(self.now))

    def _took(self, actions: tuple[Action, ...]) -> "RequestBench":
        self.actions = actions
        self.asked += [each for each in actions if isinstance(each, AskPrefill | AskDecode)]
        return self

    @property
    def ask(self) -> AskPrefill | AskDecode:
        """The call that the newest actions ask for."""
        (ask,) = (each for each in self.actions if isinstance(each, AskPrefill | AskDecode))
        return ask

    @property
    def released(self) -> list[KvReference]:
        """The references that the newest actions release."""
        return [each.reference for each in self.actions if isinstance(each, ReleaseLease)]

    def in_flight(self) -> int:
        """The calls that the fleet counts."""
        return sum(view.in_flight for view in self.fleet.snapshot(self.now))
