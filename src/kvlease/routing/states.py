"""The states of a routed request, and the table that drives it: `REQUEST`.

For each report of the driver in each state the table has the moves that may answer it, and where each leads. A report
in a state that it does not name is a bug, the driver's or the router's, and raises `ImpossibleEvent`; so does a move
that is not there.
"""

import enum
from collections.abc import Mapping

from kvlease.errors import ImpossibleEvent


class RequestState(enum.StrEnum):
    """The states of a request."""

    NEW = "new"
    """It has been admitted."""
    PREFILLING = "prefilling"
    """A prefill engine is asked."""
    DECODING = "decoding"
    """A decode engine is asked; the client has nothing yet."""
    STREAMING = "streaming"
    """The client has a part of the answer: nothing of it can be taken back."""
    CONTINUING = "continuing"
    """The stream was cut, and a prefill engine is asked for the prompt and the tokens so far."""
    RESUMING = "resuming"
    """The stream was cut, and a decode engine is asked to go on."""
    ENDED = "ended"
    """The client has all that it will get."""


class RequestReport(enum.StrEnum):
    """The reports of the driver."""

    START = "start"
    """The request has been admitted."""
    PREFILLED = "prefilled"
    """The prefill engine has answered, with an offer or without."""
    FAILED = "failed"
    """The call under way has failed."""
    BEGAN = "began"
    """The first token of the call under way is there."""
    FINISHED = "finished"
    """The answer is complete."""
    CLIENT_GONE = "client_gone"
    """The client has closed its connection."""


class RequestMove(enum.StrEnum):
    """The moves that a request can make."""

    ASK_PREFILL = "ask prefill"
    """A prefill engine is asked."""
    ASK_DECODE = "ask decode"
    """A decode engine is asked, with a reference or with the whole prompt."""
    STREAM = "stream"
    """The client gets tokens from now on."""
    FINISH = "finish"
    """The client has its answer."""
    PASS_ON = "pass on"
    """The client gets the engine's own answer."""
    REFUSE = "refuse"
    """The client gets an error of the router's."""
    BREAK_OFF = "break off"
    """The client's stream ends with an error."""
    LEAVE = "leave"
    """The client is gone; nothing is sent any more."""


Moves = Mapping[RequestMove, RequestState]
"""The moves that may answer a report, and the state that each leads to."""

_S, _R, _M = RequestState, RequestReport, RequestMove
_LEAVE: Moves = {_M.LEAVE: _S.ENDED}
_OVER: Moves = {_M.PASS_ON: _S.ENDED, _M.REFUSE: _S.ENDED}
_BROKEN: Moves = {_M.BREAK_OFF: _S.ENDED}
_AGAIN: Moves = {_M.ASK_PREFILL: _S.PREFILLING, _M.ASK_DECODE: _S.DECODING}
_GO_ON: Moves = {_M.ASK_PREFILL: _S.CONTINUING, _M.ASK_DECODE: _S.RESUMING}

REQUEST: Mapping[tuple[RequestState, RequestReport], Moves] = {
    (_S.NEW, _R.START): {**_AGAIN, _M.REFUSE: _S.ENDED},
    (_S.NEW, _R.CLIENT_GONE): _LEAVE,
    (_S.PREFILLING, _R.PREFILLED): {_M.ASK_DECODE: _S.DECODING, _M.REFUSE: _S.ENDED},
    (_S.PREFILLING, _R.FAILED): {**_AGAIN, **_OVER},
    (_S.PREFILLING, _R.CLIENT_GONE): _LEAVE,
    (_S.DECODING, _R.FAILED): {**_AGAIN, **_OVER},
    (_S.DECODING, _R.BEGAN): {_M.STREAM: _S.STREAMING},
    (_S.DECODING, _R.FINISHED): {_M.FINISH: _S.ENDED},
    (_S.DECODING, _R.CLIENT_GONE): _LEAVE,
    (_S.STREAMING, _R.FAILED): {**_GO_ON, **_BROKEN},
    (_S.STREAMING, _R.FINISHED): {_M.FINISH: _S.ENDED},
    (_S.STREAMING, _R.CLIENT_GONE): _LEAVE,
    (_S.CONTINUING, _R.PREFILLED): {_M.ASK_DECODE: _S.RESUMING, _M.BREAK_OFF: _S.ENDED},
    (_S.CONTINUING, _R.FAILED): {**_GO_ON, **_BROKEN},
    (_S.CONTINUING, _R.CLIENT_GONE): _LEAVE,
    (_S.RESUMING, _R.FAILED): {**_GO_ON, **_BROKEN},
    (_S.RESUMING, _R.BEGAN): {_M.STREAM: _S.STREAMING},
    (_S.RESUMING, _R.FINISHED): {_M.FINISH: _S.ENDED},
    (_S.RESUMING, _R.CLIENT_GONE): _LEAVE,
    # A client that leaves after its answer is nothing new; drivers notice it at any time.
    (_S.ENDED, _R.CLIENT_GONE): _LEAVE,
}
"""The moves that may answer each report in each state. Which of them it is, is decided in `RoutedRequest`."""


def moves_after(state: RequestState, report: RequestReport) -> Moves:
    """Returns the moves that may answer a report in a state. Raises `ImpossibleEvent` where it cannot come."""
    try:
        return REQUEST[state, report]
    except KeyError:
        raise ImpossibleEvent(f"{report} cannot happen to a request that is {state}: no row of REQUEST") from None
