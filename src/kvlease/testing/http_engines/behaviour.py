"""Faults of a fake engine: what it does with a request instead of answering it."""

import enum

import msgspec


class Fault(enum.StrEnum):
    """The ways of an engine to treat a request."""

    OK = "ok"
    """It answers."""
    STATUS = "status"
    """It refuses with `status`, in vLLM's form; with 502 and 504 in a gateway's, and the engine sees nothing."""
    ABORT = "abort"
    """It answers 200 with no token and the reason "abort", as an engine does whose requests an operator aborts."""
    SHUT_DOWN = "shut_down"
    """It refuses all requests, and tells the producer nothing, as an engine of vLLM does after SIGTERM: 500, or 404 for
    a model that there is not. Its health is good."""
    SLOW = "slow"
    """It answers, and waits `delay_s` before its first token."""
    HANG = "hang"
    """It takes the request and goes silent after `after_chunks` of its stream; with 0 before the first token."""
    CUT = "cut"
    """The connection ends before the first byte, and before the engine sees the request."""
    CUT_STREAM = "cut_stream"
    """The connection ends after `after_chunks` of the stream; with 0 right after the headers of a 200."""
    DIE = "die"
    """The whole engine dies after `after_chunks`; with 0 before the first token, while it reads the prompt's blocks."""
    GARBLED = "garbled"
    """It answers 200 with something that is no answer."""
    ERROR_EVENT = "error_event"
    """It says an error after `after_chunks` of its stream, as vLLM does, and ends it; a whole answer is a 500."""


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The way an engine treats the requests to come. As JSON it is the body of `POST /behaviour`."""

    fault: Fault = Fault.OK
    status: int = 500
    """The status of `STATUS`."""
    retry_after_s: int | None = None
    """The header Retry-After of `STATUS`."""
    delay_s: float = 0.0
    """The time before the first token, of `SLOW`."""
    after_chunks: int = 0
    """The number of chunks with a token that a stream has before it ends, falls silent, or says an error."""
    token_s: float | None = None
    """The time that a token takes, of any fault. None: as the engine was made."""
    times: int | None = None
    """The number of requests it is for; the engine answers those after them. None: all."""
