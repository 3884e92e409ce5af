"""The facts: all that a routed request tells whoever watches it, as it happens. Nothing depends on them."""

import enum
from dataclasses import dataclass

from kvlease.routing.engines import EngineRole
from kvlease.routing.failures import EngineFailure


class RoutedOutcome(enum.StrEnum):
    """The ends of a request."""

    FINISHED = "finished"
    """The client has its whole answer."""
    PASSED_ON = "passed_on"
    """The client has an engine's own error."""
    REFUSED = "refused"
    """The client has an error of the router's."""
    BROKEN_OFF = "broken_off"
    """The client's stream ended with an error."""
    CLIENT_GONE = "client_gone"
    """The client left."""


class Recompute(enum.StrEnum):
    """The reasons for which a prompt is computed a second time, though its KV cache had been offered."""

    UNFENCED = "unfenced"
    """The reference has no lease, and an engine may have seen it."""
    NO_READER = "no_reader"
    """No living decode engine is known to have kvlease, and one may have seen it."""
    ERRORS = "errors"
    """Decode engines answer with errors of their own: the lease may be what they stumble over."""


class WholePrompt(enum.StrEnum):
    """The reasons for which a decode engine computes a whole prompt."""

    ASKED = "asked"
    """The driver wants no prefill engine for this request."""
    NO_OFFER = "no_offer"
    """The prefill engine offered nothing."""
    NO_PREFILL = "no_prefill"
    """No prefill engine could do it."""


class ReleaseReason(enum.StrEnum):
    """The reasons for which the router releases a lease."""

    CLIENT_GONE = "client_gone"
    """Its client left before the first token."""
    ENDED = "ended"
    """The request ended with an error before a decode engine had read it."""
    GIVEN_UP = "given_up"
    """Its prompt is computed again."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call to an engine has failed."""

    role: EngineRole
    failure: EngineFailure
    engine: str


@dataclass(frozen=True, slots=True)
class RequestRetried:
    """The request is sent again after a failure."""

    role: EngineRole
    """The role of the engine that failed."""
    failure: EngineFailure


@dataclass(frozen=True, slots=True)
class ReferenceHandedOn:
    """A second decode engine gets a reference that another one may have seen: nothing is computed twice."""

    failure: EngineFailure


@dataclass(frozen=True, slots=True)
class PromptRecomputed:
    """A prompt is computed a second time."""

    why: Recompute


@dataclass(frozen=True, slots=True)
class WholePromptSent:
    """A decode engine gets a request without a reference."""

    why: WholePrompt


@dataclass(frozen=True, slots=True)
class LeaseReleased:
    """The router releases what nobody will read."""

    why: ReleaseReason


@dataclass(frozen=True, slots=True)
class StreamContinued:
    """A stream that was cut goes on."""

    failure: EngineFailure


@dataclass(frozen=True, slots=True)
class BudgetEmpty:
    """A request was not sent again, since the budget of all requests is used up."""

    failure: EngineFailure


@dataclass(frozen=True, slots=True)
class RequestOver:
    """A request has ended."""

    outcome: RoutedOutcome
    kind: str
    """The error's `type`; "" where there is none of the router's."""


RouterFact = (
    CallFailed
    | RequestRetried
    | ReferenceHandedOn
    | PromptRecomputed
    | WholePromptSent
    | LeaseReleased
    | StreamContinued
    | BudgetEmpty
    | RequestOver
)
