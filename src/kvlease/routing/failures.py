"""The ways in which a call to an engine fails, and what follows from each: the table `FAILURES`.

A failure is what the router saw, not what the engine meant. The table is all that is decided by the kind of failure
alone; how often, how soon and at whom a request is sent again is decided in `request`.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple


class EngineFailure(enum.StrEnum):
    """The ways in which a call to an engine fails before its answer is complete."""

    UNREACHABLE = "unreachable"
    """No connection could be made, or not in time: the engine has seen nothing of the request."""
    CUT = "cut"
    """The connection ended before the answer did: the process died, or closed a connection that was idle just before
    the request came. The engine may have read all of it. A call counts so as well where two looks in a row have found
    its engine dead."""
    SILENT = "silent"
    """The time limit of a phase has passed: of the prefill, the first token, the next one, or the whole answer."""
    GATEWAY = "gateway"
    """Status 502 or 504: something between router and engine could not reach it, or did not hear from it."""
    BUSY = "busy"
    """Status 503: the engine takes nothing now."""
    ERROR = "error"
    """Status 500 or any other 5xx: the engine's own answer, which vLLM gives to some mistakes of clients too."""
    ABORTED = "aborted"
    """Status 200, `finish_reason` "abort", no token: the engine drains, or an operator has aborted its requests."""
    REFUSED = "refused"
    """Status 4xx, also 429: the engine's answer to this client, which another engine would give too. A 429 is a limit
    on the client that somebody has set; to ask elsewhere would defeat it."""
    GARBLED = "garbled"
    """An answer that is none of its kind: a body that cannot be read, a status that is neither 2xx, 4xx nor 5xx."""


class FailureRule(NamedTuple):
    """The consequences of a failure."""

    retried: bool
    """The request is sent again, within its budget."""
    same_engine: bool
    """It may be sent to the same engine again, where there is no other: the next answer may be better."""
    seen: bool
    """The engine may have seen the reference, and may have begun to read."""
    breaker: bool
    """It counts for the engine's breaker."""
    opens: bool
    """A row of failures that has one of these opens the breaker; a row that has none never does."""
    budget: bool
    """A retry after it draws on the budget that all requests share. What an engine has not seen costs it nothing, so
    to ask another engine is no second call (gRPC's "transparent retry")."""
    status: int
    """The status that the client gets where nothing more is tried."""
    kind: str
    """The `type` of that error."""


FAILURES: Mapping[EngineFailure, FailureRule] = {
    EngineFailure.UNREACHABLE: FailureRule(True, False, False, True, True, False, 502, "engine_unreachable"),
    EngineFailure.CUT: FailureRule(True, True, True, True, True, True, 502, "engine_lost"),
    EngineFailure.SILENT: FailureRule(True, False, True, True, True, True, 504, "engine_silent"),
    EngineFailure.GATEWAY: FailureRule(True, True, True, True, True, True, 502, "engine_unreachable"),
    EngineFailure.BUSY: FailureRule(True, True, True, True, True, True, 503, "engine_busy"),
    EngineFailure.ERROR: FailureRule(True, True, True, True, False, True, 500, "engine_error"),
    EngineFailure.ABORTED: FailureRule(True, False, True, False, False, True, 503, "engine_draining"),
    EngineFailure.REFUSED: FailureRule(False, False, True, False, False, False, 400, "engine_refused"),
    EngineFailure.GARBLED: FailureRule(True, False, True, True, True, True, 502, "engine_garbled"),
}
"""The consequences of every failure. Those of `REFUSED`, and of the last `ERROR`, reach the client as the engine's own
answer; of all others the router says what happened, with the status given here."""


def of_status(status: int) -> EngineFailure | None:
    """Returns the failure that an HTTP status stands for; None for 2xx."""
    if 200 <= status < 300:
        return None
    if 400 <= status < 500:
        return EngineFailure.REFUSED
    if status in (502, 504):
        return EngineFailure.GATEWAY
    if status == 503:
        return EngineFailure.BUSY
    if 500 <= status < 600:
        return EngineFailure.ERROR
    return EngineFailure.GARBLED
