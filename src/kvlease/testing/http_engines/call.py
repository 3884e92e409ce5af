"""Requests as an engine reads them, of OpenAI's three APIs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kvlease.testing.http_engines.toy_model import MAX_MODEL_LEN, MODEL, ids_of, rendered

PATHS = {"/v1/completions": "completions", "/v1/chat/completions": "chat", "/v1/responses": "responses"}
"""The APIs that carry KV cache, by path."""
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_DEFAULT_TOKENS = 16


class CallRefused(Exception):
    """A request that vLLM refuses before it is admitted: the status, and the error in OpenAI's form."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": status}


@dataclass(frozen=True, slots=True)
class Call:
    """All that one request asks for."""

    api: str
    """The API: completions, chat, or responses."""
    prompts: tuple[list[int], ...]
    tokens: int
    """The length of each answer."""
    finish_reason: str
    """The reason why an answer ends: length where the client set one, else stop."""
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    return_token_ids: bool = False
    params: Mapping[str, Any] | None = None
    """The request's `kv_transfer_params`."""

    @property
    def prompt_tokens(self) -> int:
        """The tokens of all its prompts."""
        return sum(map(len, self.prompts))


def body_of(raw: bytes) -> dict[str, Any]:
    """Returns a request's body. Raises `CallRefused`."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise CallRefused(400, "BadRequestError", f"the body is no JSON object: {error}") from None


def read_call(api: str, body: Mapping[str, Any]) -> Call:
    """Returns what a request's body asks for. Raises `CallRefused`."""
    model = body.get("model", MODEL)
    if model != MODEL:
        raise CallRefused(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
    tokens = next((body[name] for name in _LIMITS if body.get(name) is not None), None)
    if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
        raise CallRefused(400, "BadRequestError", f"max_tokens must be at least 1, got {tokens}.", "max_tokens")
    options = body.get("stream_options") or {}
    call = Call(
        api,
        _prompts(api, body),
        tokens or _DEFAULT_TOKENS,
        "length" if tokens else "stop",
        n=body.get("n") or 1,
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        return_token_ids=bool(body.get("return_token_ids")),
        params=body.get("kv_transfer_params"),
    )
    if max(map(len, call.prompts)) + call.tokens > MAX_MODEL_LEN:
        raise CallRefused(400, "BadRequestError", f"This model's maximum context length is {MAX_MODEL_LEN} tokens.")
    return call


def _prompts(api: str, body: Mapping[str, Any]) -> tuple[list[int], ...]:
    name = {"completions": "prompt", "chat": "messages", "responses": "input"}[api]
    said = body.get(name)
    if api == "chat" or (api == "responses" and isinstance(said, list)):
        if not isinstance(said, list) or not said:
            raise CallRefused(400, "BadRequestError", f"{name} must be a list with a message in it.", name)
        return (ids_of(rendered(said)),)
    if isinstance(said, str) and said:
        return (ids_of(said),)
    if isinstance(said, list) and said and all(isinstance(each, int) for each in said):
        return (said,)
    if isinstance(said, list) and said:
        return tuple(ids_of(each) if isinstance(each, str) else each for each in said)
    raise CallRefused(400, "BadRequestError", f"{name} must not be empty.", name)
