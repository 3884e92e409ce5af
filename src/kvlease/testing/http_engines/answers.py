"""The forms of vLLM's answers: whole ones, and the events of streams, of OpenAI's three APIs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kvlease.testing.http_engines.call import Call
from kvlease.testing.http_engines.toy_model import MODEL, text_of

_PREFIXES = {"completions": "cmpl-", "chat": "chatcmpl-", "responses": "resp_"}
_OBJECTS = {"completions": "text_completion", "chat": "chat.completion", "responses": "response"}
DONE = b"data: [DONE]\n\n"


def as_event(content: object) -> bytes:
    """Returns the bytes of one event of a stream."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


class AnswerForms:
    """The answers to one call."""

    def __init__(self, call: Call, request_id: str) -> None:
        self._call = call
        self._id = _PREFIXES[call.api] + request_id
        self._created = int(time.time())
        self._number = 0

    def whole(self, outputs: Sequence[Sequence[int]], reason: str, offer: Mapping[str, Any] | None = None) -> object:
        """Returns the answer in one piece. `outputs`: the tokens of each of its choices."""
        used = self._usage(sum(map(len, outputs)))
        if self._call.api == "responses":
            return self._response(text_of(outputs[0]), reason, used, offer)
        choices = [self._choice(index, ids, reason) for index, ids in enumerate(outputs)]
        head = {"id": self._id, "object": _OBJECTS[self._call.api], "created": self._created, "model": MODEL}
        more = {"prompt_token_ids": self._call.prompts[0]} if self._wants_ids_of_chat else {}
        return head | {"choices": choices, "usage": used, "kv_transfer_params": offer} | more

    def opening(self) -> list[bytes]:
        """Returns the events that a stream begins with before the engine has computed anything."""
        if self._call.api != "responses":
            return []
        response = self._response("", "in_progress", None)
        return [self._event(f"response.{kind}", response=response) for kind in ("created", "in_progress")]

    def beginning(self) -> list[bytes]:
        """Returns the events that come with a stream's first token, before it."""
        if self._call.api == "chat":
            more = {"prompt_token_ids": self._call.prompts[0]} if self._wants_ids_of_chat else {}
            delta = {"role": "assistant", "content": ""}
            return [self._chunk({"index": index, "delta": delta, "finish_reason": None}, **more) for index in self._all]
        if self._call.api == "responses":
            item = self._item("", "in_progress") | {"content": []}
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            return [
                self._event("response.output_item.added", output_index=0, item=item),
                self._event(
                    "response.content_part.added", output_index=0, content_index=0, item_id=item["id"], part=part
                ),
            ]
        return []

    def token(self, index: int, number: int, token: int, reason: str | None) -> bytes:
        """Returns the event of one token, the `number`th of a choice. `reason`: that the choice ends with it."""
        text = text_of([token])
        if self._call.api == "responses":
            item = f"msg_{self._id}"
            return self._event(
                "response.output_text.delta", output_index=0, content_index=0, item_id=item, delta=text, logprobs=[]
            )
        more: dict[str, Any] = {}
        if self._call.return_token_ids:
            more["token_ids"] = [token]
        if self._call.api == "chat":
            choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": reason} | more
        else:
            if self._call.return_token_ids:
                more["prompt_token_ids"] = self._call.prompts[index // self._call.n] if number == 1 else None
            choice = {
                "index": index,
                "text": text,
                "logprobs": None,
                "finish_reason": reason,
                "stop_reason": None,
            } | more
        usage = {"usage": self._usage(number)} if self._call.continuous_usage else {}
        return self._chunk(choice, **usage)

    def ending(self, outputs: Sequence[Sequence[int]], reason: str) -> list[bytes]:
        """Returns the events after the last token."""
        used = self._usage(sum(map(len, outputs)))
        if self._call.api == "responses":
            text = text_of(outputs[0])
            item = self._item(text, "completed")
            where = {"output_index": 0, "content_index": 0, "item_id": item["id"]}
            return [
                self._event("response.output_text.done", **where, text=text, logprobs=[]),
                self._event("response.content_part.done", **where, part=item["content"][0]),
                self._event("response.output_item.done", output_index=0, item=item),
                self._event("response.completed", response=self._response(text, reason, used)),
            ]
        last = [as_event(self._head() | {"choices": [], "usage": used})] if self._call.include_usage else []
        return [*last, DONE]

    def aborted(self) -> list[bytes]:
        """Returns the stream of a request that the engine aborted before its first token.

        vLLM sends no chunk for an output without a token: the reason "abort" stands in answers in one piece alone.
        """
        if self._call.api == "responses":
            return self.ending([[]], "abort")[-1:]
        return [*self.beginning(), *self.ending([], "abort")]

    def broken(self, message: str) -> list[bytes]:
        """Returns the events with which vLLM ends a stream that it cannot go on with."""
        error = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
        if self._call.api == "responses":
            return [self._event("error", **error)]
        return [as_event({"error": error}), DONE]

    @property
    def _all(self) -> range:
        return range(len(self._call.prompts) * self._call.n)

    @property
    def _wants_ids_of_chat(self) -> bool:
        return self._call.api == "chat" and self._call.return_token_ids

    def _usage(self, made: int) -> dict[str, Any]:
        prompt = self._call.prompt_tokens
        if self._call.api == "responses":
            details: dict[str, Any] = {
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            }
            return {"input_tokens": prompt, "output_tokens": made, "total_tokens": prompt + made} | details
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}

    def _choice(self, index: int, ids: Sequence[int], reason: str) -> dict[str, Any]:
        said: dict[str, Any] = {"text": text_of(ids)}
        if self._call.api == "chat":
            said = {"message": {"role": "assistant", "content": text_of(ids)}}
        choice = {"index": index, "logprobs": None, "finish_reason": reason, "stop_reason": None} | said
        if self._call.return_token_ids:
            choice["token_ids"] = list(ids)
            if self._call.api == "completions":
                choice["prompt_token_ids"] = self._call.prompts[index // self._call.n]
        return choice

    def _head(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._call.api == "chat" else "text_completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": MODEL}

    def _chunk(self, choice: dict[str, Any], **more: Any) -> bytes:
        return as_event(self._head() | {"choices": [choice]} | more)

    def _event(self, kind: str, **more: Any) -> bytes:
        content = msgspec.json.encode({"type": kind, "sequence_number": self._number} | more)
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + content + b"\n\n"

    def _item(self, text: str, status: str) -> dict[str, Any]:
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
        return {"id": f"msg_{self._id}", "type": "message", "role": "assistant", "status": status, "content": [part]}

    def _response(
        self, text: str, reason: str, used: dict[str, Any] | None, offer: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        statuses = {"length": "incomplete", "stop": "completed", "abort": "cancelled"}
        cut = {"reason": "max_output_tokens"} if reason == "length" else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "model": MODEL,
            "status": statuses.get(reason, reason),
            "incomplete_details": cut,
            "output": [self._item(text, "completed")] if text else [],
            "parallel_tool_calls": True,
            "temperature": 0.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": used,
            "kv_transfer_params": offer,
        }
