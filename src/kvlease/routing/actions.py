"""The actions: all that a routed request asks its driver to do, and the reference that is handed on.

The driver carries them out in the order in which they come, and decides nothing. It waits for none of them before it
begins the next, but reports (`RoutedRequest`) one thing at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from kvlease.routing.failures import EngineFailure


@dataclass(frozen=True, slots=True, eq=False)
class KvReference:
    """The `kv_transfer_params` by which a prefill engine offers what it has computed; opaque but for what is here.

    Two are equal only if they are the same object: each prefill has its own.
    """

    params: Mapping[str, object]
    """The whole object, as the engine wrote it. It goes to the decode engine untouched."""
    producer: str
    """The URL of the prefill engine."""

    @classmethod
    def of(cls, params: object, producer: str) -> Self | None:
        """Returns the reference in an engine's answer; None where it offers nothing that could be read."""
        if isinstance(params, Mapping) and params.get("do_remote_prefill") is True:
            return cls(params, producer)
        return None

    @property
    def leased(self) -> bool:
        """True where the offer has a lease: it can be sent to a second engine, whatever the first one did with it."""
        return self.params.get("kv_lease") is not None

    @property
    def token(self) -> str | None:
        """The lease's token (16 hex digits), by which its producer's listener releases it; None where it has none."""
        lease = self.params.get("kv_lease")
        token = lease.get("token") if isinstance(lease, Mapping) else None
        return token if isinstance(token, str) else None


@dataclass(frozen=True, slots=True)
class AskPrefill:
    """Send the prompt to a prefill engine. Report `prefilled` or `failed`."""

    engine: str
    delay_s: float
    """The time to wait before."""
    continued: bool = False
    """The tokens that the client has already are part of the prompt."""


@dataclass(frozen=True, slots=True)
class AskDecode:
    """Send the request to a decode engine. Report `began` and `finished`, or `failed`."""

    engine: str
    reference: KvReference | None
    """The KV cache that it shall read; None: it computes the whole prompt itself."""
    delay_s: float
    continued: bool = False
    """The tokens that the client has already are part of the prompt, and are not sent to it again."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the call that is under way at this engine, or waits for its delay: close its connection, upon which vLLM
    aborts the request. Nothing more is to be reported of it."""

    engine: str


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """Tell the producer that nobody will read what this reference names, whoever has read of it before. The client
    does not wait for it."""

    reference: KvReference
    by: tuple[str, ...]
    """Decode engines that are believed alive, to try in this order: a request that is sure to be refused, with the
    reference and without `kv_lease_on_reject`."""
    producer: str
    """The prefill engine, to ask at its listener where none of them answers. If it does not answer either, the lease's
    term ends it."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """Give the client the answer that the engine gave to the call that has just failed, as it is: status, headers,
    body."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Give the client an error of the router's own, in OpenAI's form."""

    status: int
    kind: str
    """The error's `type`."""
    message: str
    retry_after_s: float | None = None
    """The value of `Retry-After`, to be rounded up."""


@dataclass(frozen=True, slots=True)
class BreakOff:
    """End a stream of which the client has a part already: an event with this error, then the end, without `[DONE]`."""

    kind: str
    message: str


Action = AskPrefill | AskDecode | Cancel | ReleaseLease | PassOn | Refuse | BreakOff
ANSWERS = (PassOn, Refuse, BreakOff)
"""The actions that are the end of a request: the client gets nothing after them."""


def said_of(failure: EngineFailure) -> str:
    """Returns what an engine did, for an error message. It does not name the engine: clients need not know it."""
    return _SAID[failure]


_SAID: Mapping[EngineFailure, str] = {
    EngineFailure.UNREACHABLE: "could not be reached",
    EngineFailure.CUT: "closed the connection before its answer was complete",
    EngineFailure.SILENT: "did not answer in time",
    EngineFailure.GATEWAY: "could not be reached through its gateway (502 or 504)",
    EngineFailure.BUSY: "takes no requests now (503)",
    EngineFailure.ERROR: "answered with an error of its own (5xx)",
    EngineFailure.ABORTED: "aborted the request before its first token (it drains)",
    EngineFailure.REFUSED: "refused the request (4xx)",
    EngineFailure.GARBLED: "gave an answer that cannot be read",
}
