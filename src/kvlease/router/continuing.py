"""Streams that can go on at another engine: what the client has of them, as tokens, and how the rest fits on.

Only greedy answers can, where what comes next follows from the prompt and the tokens before. The engine is asked for
its tokens (`return_token_ids`), which the client does not see. If the engine dies, prompt and tokens are another's
prompt, at `/v1/completions`, whatever API the client uses.

A token may end in the middle of a character, and its engine then says the text with a later one. So the new engine
begins at the last token that was alone in its event and had text: there the texts fit. What the client has beyond it is
said again, has to be the same, and is taken out.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from kvlease.router.bodies import MOST_READ_BYTES, Api, BadBody, ClientBody, decode_fields, is_set, is_text
from kvlease.router.streams import DONE, END, MOST_HELD_BYTES, Says, StreamFailed, data_of, events_of, says_of
from kvlease.routing.failures import EngineFailure

_KEPT = frozenset(
    (
        *("model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "seed", "ignore_eos"),
        *("stop_token_ids", "skip_special_tokens", "spaces_between_special_tokens"),
        *("user", "cache_salt", "priority", "session_id", "request_id"),
    )
)
"""The fields that mean the same for the rest of an answer."""
_USED_UP = frozenset(
    (
        *("prompt", "messages", "add_special_tokens", "add_generation_prompt", "continue_final_message"),
        *("chat_template", "chat_template_kwargs", "documents", "metadata", "store"),
        *("max_tokens", "max_completion_tokens", "min_tokens", "n"),
    )
)
"""The fields that are in the prompt's tokens, or are counted anew."""
_DELTA = {"role", "content"}


class StreamContinuation:
    """One stream that can be continued: it is read in the place of a `Flow`."""

    def __init__(self, body: ClientBody) -> None:
        self.failure: EngineFailure | None = None
        """The way in which the stream has failed; nothing more is passed on then."""
        self._body = body
        self._rest = b""
        self._prompt: list[int] | None = None
        self._tokens: list[int] = []
        self._after: list[int] = []
        self._since = ""
        self._repeat = ""
        self._head: dict[str, Any] = {}
        self._can = True
        self._resumed = False
        self._reason_said = False
        self._ended = False

    @classmethod
    def of(cls, body: ClientBody) -> "StreamContinuation | None":
        """Returns the continuation of a request's stream; None where it cannot be continued."""
        return cls(body) if is_continuable(body) else None

    def can_go_on(self) -> bool:
        """Tells whether another engine can be asked for the rest."""
        limit = self._limit()
        left = limit is None or limit > len(self._tokens)
        return self._can and self._prompt is not None and not self._reason_said and left

    # -- what is sent --------------------------------------------------------------------------------------------

    def for_prefill(self) -> bytes:
        """Returns the body for a prefill engine: the prompt, and the tokens up to the place where it goes on."""
        return self._rest_of_it().for_prefill()

    def for_decode(self, params: Mapping[str, object] | None, *, keep_lease: bool) -> bytes:
        """Returns the body for the decode engine that goes on."""
        return self._rest_of_it().for_decode(params, keep_lease=keep_lease, with_ids=True)

    def _rest_of_it(self) -> ClientBody:
        fields = {name: raw for name, raw in self._body.fields.items() if name in _KEPT}
        fields["prompt"] = Raw(msgspec.json.encode([*(self._prompt or ()), *self._tokens]))
        limit = self._limit()
        fields["max_tokens"] = Raw(b"null" if limit is None else b"%d" % (limit - len(self._tokens)))
        least = _number(self._body.fields, "min_tokens")
        if least:
            fields["min_tokens"] = Raw(b"%d" % max(0, least - len(self._tokens)))
        return ClientBody(Api.COMPLETIONS, fields, stream=True, several=False, whole=False)

    def _limit(self) -> int | None:
        fields = self._body.fields
        if self._body.api is Api.CHAT and (limit := _number(fields, "max_completion_tokens")) is not None:
            return limit
        if self._body.api is Api.COMPLETIONS and "max_tokens" not in fields:
            return 16
        return _number(fields, "max_tokens")

    # -- what comes ----------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Another engine's stream begins."""
        self.failure = None
        self._resumed = True
        self._rest = b""
        self._after.clear()
        self._repeat = self._since + self._repeat
        self._since = ""

    def feed(self, chunk: bytes) -> bytes:
        """Takes bytes and returns what may go to the client."""
        block = self._rest + chunk
        end = block.rfind(END) + 2
        if end < 2:
            end = 0
        self._rest = block[end:]
        if len(self._rest) > MOST_HELD_BYTES:
            self.failure = EngineFailure.GARBLED
        passed = []
        for event in events_of(block[:end]):
            try:
                passed.append(self._pass(event))
            except StreamFailed as said:
                self.failure = said.failure
                break
            except (TypeError, AttributeError):
                # Fields of other types than vLLM's.
                self.failure = EngineFailure.GARBLED
                break
        return b"".join(passed)

    def has_ended(self) -> bool:
        """Tells whether the stream has come to its proper end."""
        return self._ended

    def missing_end(self) -> bytes:
        """Returns the end of a stream that lacks nothing else; b"" for others."""
        whole = self._reason_said and not is_set(self._body.fields, "stream_options")
        return DONE if whole and not self._ended else b""

    def _pass(self, event: bytes) -> bytes:
        says = says_of(self._body.api if not self._resumed else Api.COMPLETIONS, event)
        if says is Says.END:
            self._ended = True
            return event
        data = data_of(event)
        return self._pass_chunk(msgspec.json.decode(data)) if data else event

    def _pass_chunk(self, content: dict[str, Any]) -> bytes:
        choices = content.get("choices") or [{}]
        choice = choices[0]
        ids = content.pop("prompt_token_ids", None) or choice.pop("prompt_token_ids", None)
        tokens = choice.pop("token_ids", None) or []
        choice.pop("prompt_token_ids", None)
        if self._prompt is None and ids:
            self._prompt = list(ids)
        text = self._text_of(choice)
        if text and not tokens:
            # An engine that says no tokens, or hides them.
            self._can = False
        fresh = self._take(tokens, text)
        if choice.get("finish_reason") is not None:
            self._reason_said = True
        if not self._resumed:
            self._head = {name: content[name] for name in ("id", "object", "created", "model") if name in content}
            return _as_event(content)
        return self._retold(content, choice, fresh)

    def _text_of(self, choice: Mapping[str, Any]) -> str:
        delta = choice.get("delta")
        if delta is None:
            return choice.get("text") or ""
        if any(value for name, value in delta.items() if name not in _DELTA):
            # A parser of the engine's is at work, and another engine's would begin in the middle.
            self._can = False
        return delta.get("content") or ""

    def _take(self, tokens: list[int], text: str) -> str:
        """Notes what an engine has said. Returns the part of the text that the client does not have yet."""
        known = min(len(text), len(self._repeat))
        if text[:known] != self._repeat[:known]:
            self._can = False
            raise StreamFailed(EngineFailure.GARBLED)
        self._repeat = self._repeat[known:]
        self._since += text
        self._after += tokens
        if len(tokens) == 1 and text:
            self._tokens += self._after
            self._after.clear()
            self._since = ""
        return text[known:]

    def _retold(self, content: dict[str, Any], choice: dict[str, Any], text: str) -> bytes:
        """Returns an event of the engine that goes on, as one of the stream that the client reads."""
        reason = choice.get("finish_reason")
        if reason is not None and self._repeat:
            self._can = False
            raise StreamFailed(EngineFailure.GARBLED)
        usage = content.get("usage")
        if not text and reason is None and not usage:
            return b""
        retold: dict[str, Any] = {**self._head, "choices": []}
        if text or reason is not None:
            said = {"delta": {"content": text}} if self._body.api is Api.CHAT else {"text": text}
            more = {"logprobs": None, "finish_reason": reason, "stop_reason": choice.get("stop_reason")}
            retold["choices"] = [{"index": 0, **said, **more}]
        if usage:
            retold["usage"] = self._whole_usage(usage)
        return _as_event(retold)

    def _whole_usage(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the usage of the whole answer: for the engine that goes on, its first part is prompt."""
        prompt = len(self._prompt or ())
        made = usage.get("prompt_tokens", 0) - prompt + usage.get("completion_tokens", 0)
        return {**usage, "prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def is_continuable(body: ClientBody) -> bool:
    """Tells whether a request is of the kind whose stream another engine can go on with."""
    if body.api is Api.RESPONSES or not body.stream or body.several or body.whole:
        return False
    fields = body.fields
    if any(name not in _KEPT and name not in _USED_UP and is_set(fields, name) for name in fields):
        return False
    if not is_text(fields, "temperature", b"0", b"0.0"):
        return False
    try:
        return body.api is Api.COMPLETIONS or _is_text_only(fields)
    except (BadBody, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _is_text_only(fields: Mapping[str, Raw]) -> bool:
    messages = fields.get("messages", Raw(b"[]"))
    if memoryview(messages).nbytes > MOST_READ_BYTES:
        return False
    for message in msgspec.json.decode(messages, type=list[Raw]):
        content = decode_fields(bytes(message)).get("content")
        parts = msgspec.json.decode(content) if content is not None else None
        if isinstance(parts, list) and any(part.get("type") != "text" for part in parts if isinstance(part, dict)):
            return False
    return True


def _number(fields: Mapping[str, Raw], name: str) -> int | None:
    raw = fields.get(name)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=int | None, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _as_event(content: object) -> bytes:
    return b"data: " + msgspec.json.encode(content) + END
