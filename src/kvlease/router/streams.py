"""Streams of server-sent events: what an engine's events say, and what of them may go to the client.

Before the first token all is held back, so that another engine can be asked and the client sees none of it. After it
the engine's bytes pass as they are; only events that look like an error or an abort are read.

vLLM 0.32, `entrypoints/openai`: a chat's first event has only a role. A request that is aborted before its first token
gets no event but `[DONE]` (completions), the role and `[DONE]` (chat), or a "completed" response without output
(responses). An error inside a stream is an event `{"error": …}`, and `[DONE]` follows. A stream that ends without
`[DONE]` was cut.
"""

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from kvlease.router.bodies import Api
from kvlease.router.failures import EngineFailure, of_status

MOST_HELD_BYTES = 16_000_000
"""The longest event, and the most that is held back before the first token."""
END = b"\n\n"
DONE = b"data: [DONE]\n\n"


class Says(enum.Enum):
    """What one event of a stream says to the router."""

    NOTHING = enum.auto()
    """Nothing that a client would miss: a comment, a role, that the answer has begun."""
    OUTPUT = enum.auto()
    """A token that can be seen, or the reason why the answer ends."""
    ABORTED = enum.auto()
    """The engine has aborted the request."""
    FAILED = enum.auto()
    """An error."""
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


def read_event(api: Api, event: bytes) -> tuple[Says, dict[str, Any]]:
    """Returns what an event says, and its content. Raises `StreamFailed` for one that cannot be read."""
    data = data_of(event)
    if not data:
        return Says.NOTHING, {}
    if data == b"[DONE]":
        return Says.END, {}
    try:
        content = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StreamFailed(EngineFailure.GARBLED) from None
    says = _response_says(content) if api is Api.RESPONSES else _chunk_says(content)
    return says, content


def _chunk_says(content: Mapping[str, Any]) -> Says:
    if content.get("error"):
        return Says.FAILED
    says = Says.NOTHING
    for choice in content.get("choices") or ():
        if choice.get("finish_reason") == "abort":
            return Says.ABORTED
        if _is_seen(choice):
            says = Says.OUTPUT
    return says


def _is_seen(choice: Mapping[str, Any]) -> bool:
    if choice.get("finish_reason") is not None or choice.get("text") or choice.get("logprobs"):
        return True
    delta = choice.get("delta") or {}
    return any(value for name, value in delta.items() if name != "role")


def _response_says(content: Mapping[str, Any]) -> Says:
    kind = content.get("type")
    if kind == "error" or kind == "response.failed" or (kind is None and content.get("error")):
        return Says.FAILED
    if kind in ("response.completed", "response.incomplete"):
        return Says.ABORTED if _is_aborted_response(content.get("response") or {}) else Says.END
    # What is added, opened or in progress comes with its first token, and is nothing without it.
    if isinstance(kind, str) and kind.endswith((".delta", ".done")):
        return Says.OUTPUT
    return Says.NOTHING


def _is_aborted_response(response: Mapping[str, Any]) -> bool:
    # vLLM has no status for it, but for gpt-oss: the response is complete, and has nothing in it.
    used = response.get("usage") or {}
    return response.get("status") == "cancelled" or (not response.get("output") and used.get("output_tokens") == 0)


def failure_said(content: Mapping[str, Any]) -> StreamFailed:
    """Returns the failure that an error event tells of, with the error as an answer of its own."""
    error = content.get("error")
    inner = error if isinstance(error, dict) else content
    code = inner.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    said = msgspec.json.encode({"error": {name: value for name, value in inner.items() if name != "sequence_number"}})
    return StreamFailed(of_status(status) or EngineFailure.ERROR, (status, said))


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
            says, content = read_event(self._api, event)
            if says is Says.OUTPUT:
                return True
            if says is Says.FAILED:
                raise failure_said(content)
            if says is Says.END and self._api is Api.RESPONSES:
                # It has used tokens, if none that a client sees.
                return True
            if says in (Says.ABORTED, Says.END):
                # An answer without a token and without a reason to end is none: vLLM says no more of an abort.
                raise StreamFailed(EngineFailure.ABORTED)
        if len(self._held) > MOST_HELD_BYTES:
            raise StreamFailed(EngineFailure.GARBLED)
        return False

    def held(self) -> bytes:
        """Returns all bytes that have come."""
        return bytes(self._held)


class Flow:
    """A stream after its first token: bytes in, bytes out, up to the end of the last event that is complete."""

    def __init__(self, api: str) -> None:
        self._api = Api(api)
        self._rest = b""
        self._last = b""
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
        # The text of an answer cannot have these bytes but as a whole value: its quotes are escaped.
        if b'"abort"' in chunk or b'"error"' in chunk or b'"cancelled"' in chunk or b'"response.failed"' in chunk:
            chunk = self._before_failure(chunk)
        self._last = chunk
        return chunk

    def has_ended(self) -> bool:
        """Tells whether the stream has come to its proper end."""
        if self._api is not Api.RESPONSES:
            return self._last.endswith(DONE) or b"data: [DONE]" in self._last
        return b'"response.completed"' in self._last or b'"response.incomplete"' in self._last

    def _before_failure(self, block: bytes) -> bytes:
        passed = 0
        for event in events_of(block):
            try:
                says, content = read_event(self._api, event)
            except StreamFailed as broken:
                self.failure = broken.failure
                break
            if says is Says.ABORTED:
                self.failure = EngineFailure.ABORTED
                break
            if says is Says.FAILED:
                self.failure = failure_said(content).failure
                break
            passed += len(event)
        return block[:passed]


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    output: list[msgspec.Raw] | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    kv_transfer_params: dict[str, Any] | None = None


_answers = msgspec.json.Decoder(_Answer)


def read_answer(api: Api, body: bytes) -> dict[str, Any] | None:
    """Returns the `kv_transfer_params` of an answer in one piece. Raises `StreamFailed` for one that is none."""
    try:
        answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise StreamFailed(EngineFailure.GARBLED) from None
    if api is Api.RESPONSES:
        # One that runs in the background has no output yet.
        if answer.output is None:
            raise StreamFailed(EngineFailure.GARBLED)
        if _is_aborted_response({"status": answer.status, "output": answer.output, "usage": answer.usage}):
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
