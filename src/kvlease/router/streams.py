"""Streams of server-sent events: what an engine's events say, and what of them may go to the client.

Before the first token all is held back, so that another engine can be asked and the client sees none of it. After it
the engine's bytes pass as they are; only events that look like an error or an abort are read.

Of vLLM 0.32's streams: a chat's first event has only a role. A request that is aborted before its first token
gets no event but `[DONE]` (completions), the role and `[DONE]` (chat), or a "completed" response without output
(responses). An error inside a stream is an event `{"error": …}`, and `[DONE]` follows. A stream that ends without
`[DONE]` was cut.
"""

import enum
from collections.abc import Iterator
from typing import Any

import msgspec

from kvlease.router.bodies import Api
from kvlease.routing.failures import EngineFailure, of_status

MOST_HELD_BYTES = 16_000_000
"""The longest event, and the most that is held back before the first token."""
END = b"\n\n"
DONE = b"data: [DONE]\n\n"
_ERROR_EVENT = b"event: error"
_SUSPECTS = (
    *(b'"abort"', b'"error"', b'"cancelled"', b'"response.failed"', _ERROR_EVENT),
    *(b"[DONE]", b'"response.completed"', b'"response.incomplete"'),
)
"""The bytes of which an event has one where it may tell of a failure, or be the end. It is read then: texts, and what
a client's request had, can have the same bytes."""


class Says(enum.Enum):
    """The meaning of one event of a stream to the router."""

    NOTHING = enum.auto()
    """Nothing that a client would miss: a comment, a role, that the answer has begun."""
    OUTPUT = enum.auto()
    """A token that can be seen, or the reason why the answer ends."""
    END = enum.auto()
    """The end of the stream."""


class StreamFailed(Exception):
    """A stream that has failed.

    Attributes:
        failure: the way in which it did.
        answer: the status and the JSON of the error that the engine said, if it said one.
    """

    def __init__(self, failure: EngineFailure, answer: tuple[int, bytes] | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.answer = answer


def events_of(block: bytes) -> Iterator[bytes]:
    """Yields the events of a block that ends with the end of one, each with its end."""
    begin = 0
    while (end := block.find(END, begin)) >= 0:
        yield block[begin : end + 2]
        begin = end + 2


def data_of(event: bytes) -> bytes:
    """Returns the data of an event; b"" for one that has none, such as a comment."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2:
        return event[6:-2]
    lines = [line for line in event.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def says_of(api: Api, event: bytes) -> Says:
    """Returns what an event says. Raises `StreamFailed` for an error, an abort, and what cannot be read."""
    data = data_of(event)
    if not data:
        return Says.NOTHING
    if data == b"[DONE]":
        return Says.END
    try:
        if api is Api.RESPONSES:
            if event.startswith(_ERROR_EVENT):
                raise _failure_said(data)
            return _response_says(_response_events.decode(data), data)
        return _chunk_says(_chunks.decode(data), data)
    except _UNREADABLE:
        raise StreamFailed(EngineFailure.GARBLED) from None


class _ChunkChoice(msgspec.Struct):
    finish_reason: str | None = None
    text: str | None = None
    delta: dict[str, Any] | None = None
    logprobs: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] | None = None
    error: Any = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    output: list[msgspec.Raw] | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    kv_transfer_params: dict[str, Any] | None = None

    def is_aborted_response(self) -> bool:
        """Tells whether it is a response of which nothing was made.

        vLLM has a status for that with gpt-oss only; else the response is complete, and has nothing in it.
        """
        return self.status == "cancelled" or (not self.output and (self.usage or {}).get("output_tokens") == 0)


class _ResponseEvent(msgspec.Struct):
    type: str | None = None
    error: Any = None
    response: _Answer | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_response_events = msgspec.json.Decoder(_ResponseEvent)
_answers = msgspec.json.Decoder(_Answer)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _chunk_says(chunk: _Chunk, data: bytes) -> Says:
    if chunk.error:
        raise _failure_said(data)
    says = Says.NOTHING
    for choice in chunk.choices or ():
        if choice.finish_reason == "abort":
            raise StreamFailed(EngineFailure.ABORTED)
        if _is_seen(choice):
            says = Says.OUTPUT
    return says


def _is_seen(choice: _ChunkChoice) -> bool:
    if choice.finish_reason is not None or choice.text or choice.logprobs:
        return True
    return any(value for name, value in (choice.delta or {}).items() if name != "role")


def _response_says(event: _ResponseEvent, data: bytes) -> Says:
    kind = event.type or ""
    if kind in ("error", "response.failed") or (not kind and event.error):
        raise _failure_said(data)
    if kind in ("response.completed", "response.incomplete"):
        if event.response is not None and event.response.is_aborted_response():
            raise StreamFailed(EngineFailure.ABORTED)
        return Says.END
    # What is added, opened or in progress comes with its first token, and is nothing without it.
    return Says.OUTPUT if kind.endswith((".delta", ".done")) else Says.NOTHING


def _failure_said(data: bytes) -> StreamFailed:
    """Returns the failure that an error event tells of, with the error as an answer of its own."""
    content = msgspec.json.decode(data, type=dict[str, Any])
    response = content.get("response")
    inner = (response if isinstance(response, dict) else content).get("error")
    said: Any = inner if isinstance(inner, dict) else content
    code = said.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    error = {name: value for name, value in said.items() if name != "sequence_number"}
    return StreamFailed(of_status(status) or EngineFailure.ERROR, (status, msgspec.json.encode({"error": error})))


class Opening:
    """A stream until its first token. What has come is held back."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._held = bytearray()
        self._read_bytes = 0

    def feed(self, chunk: bytes) -> bool:
        """Takes bytes. Returns True once there is a token. Raises `StreamFailed`."""
        self._held += chunk
        while (end := self._held.find(END, self._read_bytes)) >= 0:
            event = bytes(self._held[self._read_bytes : end + 2])
            self._read_bytes = end + 2
            says = says_of(self._api, event)
            # A response that is complete has used tokens, if none that a client sees.
            if says is Says.OUTPUT or (says is Says.END and self._api is Api.RESPONSES):
                return True
            if says is Says.END:
                # An answer without a token and without a reason to end is none: vLLM says no more of an abort.
                raise StreamFailed(EngineFailure.ABORTED)
        if len(self._held) > MOST_HELD_BYTES:
            raise StreamFailed(EngineFailure.GARBLED)
        return False

    def held(self) -> bytes:
        """Returns all bytes that have come."""
        return bytes(self._held)


def _is_suspect(chunk: bytes) -> bool:
    # A loop, since each chunk of each stream comes by here: a generator takes twice as long.
    for suspect in _SUSPECTS:  # noqa: SIM110
        if suspect in chunk:
            return True
    return False


class Flow:
    """A stream after its first token: bytes in, bytes out, up to the end of the last event that is complete."""

    def __init__(self, api: str) -> None:
        self._api = Api(api)
        self._rest = b""
        self._ended = False
        self.failure: EngineFailure | None = None
        """The way in which the stream has failed; nothing more is passed on then."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes and returns what may go to the client."""
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        if not chunk.endswith(END):
            end = chunk.rfind(END) + 2
            if end < 2:
                end = 0
            self._rest = chunk[end:]
            chunk = chunk[:end]
            if len(self._rest) > MOST_HELD_BYTES:
                self.failure = EngineFailure.GARBLED
        if not chunk:
            return chunk
        if _is_suspect(chunk):
            chunk = self._before_failure(chunk)
        return chunk

    def has_ended(self) -> bool:
        """Tells whether the stream has come to its proper end."""
        return self._ended

    def _before_failure(self, block: bytes) -> bytes:
        passed = 0
        for event in events_of(block):
            try:
                self._ended = says_of(self._api, event) is Says.END
            except StreamFailed as broken:
                self.failure = broken.failure
                break
            passed += len(event)
            if self._ended:
                break
        return block[:passed]


def read_answer(api: Api, body: bytes) -> dict[str, Any] | None:
    """Returns the `kv_transfer_params` of an answer in one piece. Raises `StreamFailed` for one that is none."""
    try:
        answer = _answers.decode(body)
    except _UNREADABLE:
        raise StreamFailed(EngineFailure.GARBLED) from None
    if api is Api.RESPONSES:
        # One that runs in the background has no output yet.
        if answer.output is None:
            raise StreamFailed(EngineFailure.GARBLED)
        if answer.is_aborted_response():
            raise StreamFailed(EngineFailure.ABORTED)
    else:
        if not answer.choices:
            raise StreamFailed(EngineFailure.GARBLED)
        if any(choice.finish_reason == "abort" for choice in answer.choices):
            raise StreamFailed(EngineFailure.ABORTED)
    return answer.kv_transfer_params


def error_event(api: str, kind: str, message: str) -> bytes:
    """Returns the event that ends a stream which cannot go on, in the form of its API."""
    if api == Api.RESPONSES:
        content = {"type": "error", "code": kind, "message": message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(content) + END
    return b"data: " + error_body(500, kind, message) + END


def error_body(status: int, kind: str, message: str, param: str | None = None) -> bytes:
    """Returns an error in OpenAI's form."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": status}})
