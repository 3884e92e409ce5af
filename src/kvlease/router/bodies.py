"""The bodies of requests: what of them is read, what goes to a prefill engine, and what to a decode engine.

A body is split into its top-level fields, which stay the client's own bytes: whatever the router does not know passes
as it is. Only the fields that have to change are written anew.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from kvlease.errors import KvLeaseError, brief
from kvlease.routing.affinity import PREFIX_BYTES

T = TypeVar("T")
Fields = dict[str, Raw]


class Api(enum.StrEnum):
    """The three APIs whose requests have a prefill and a decode, by their paths."""

    COMPLETIONS = "/v1/completions"
    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"


class BadBody(KvLeaseError):
    """A body that no engine could answer: the client's mistake, which it is told with status 400.

    `param` is the field that it is about.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


PROMPT: Mapping[Api, str] = {Api.COMPLETIONS: "prompt", Api.CHAT: "messages", Api.RESPONSES: "input"}
"""The field with the prompt."""
LIMIT: Mapping[Api, str] = {
    Api.COMPLETIONS: "max_tokens",
    Api.CHAT: "max_tokens",
    Api.RESPONSES: "max_output_tokens",
}
"""The field with the most tokens of the answer."""
ASKS_OFFER = Raw(
    b'{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,'
    b'"remote_host":null,"remote_port":null}'
)
"""The `kv_transfer_params` that ask a prefill engine to keep its blocks, as vLLM's toy proxy writes them."""
ON_REJECT = "kv_lease_on_reject"
"""The key that tells a decode engine what becomes of a lease whose request it refuses: "return" leaves it as it is."""
UNKNOWN_MODEL = "kvlease-release-of-a-lease"
"""The model that no engine serves, so that a request for it is refused before it is admitted."""
AFFINITY_BYTES = PREFIX_BYTES[-1]
"""The most of a prompt's beginning that decides which prefill engine is asked first."""

MOST_FIELDS = 1000
"""The most top-level fields of a long body. OpenAI's and vLLM's requests have some 80. Millions of them would hold up
the router, and all its streams, for many seconds."""
LONG_BYTES = 65_536
"""The length from which a body is long. In a shorter one there is no room for so many of anything."""
MOST_READ_BYTES = 1_000_000
"""The longest field that is looked into."""

_ONE = Raw(b"1")
_TRUE, _FALSE = Raw(b"true"), Raw(b"false")
_NOTHING = (b"null", b"false", b"0", b"[]", b'""')
_KV = "kv_transfer_params"
# Each of them is refused beside `max_tokens` 1 or without another that is left out, or costs and is thrown away; `stop`
# and its kind could end the prefill by another reason than its length, and then vLLM offers nothing.
_NOT_FOR_PREFILL = (
    "stream_options",
    "max_completion_tokens",
    "min_tokens",
    "n",
    "best_of",
    "logprobs",
    "top_logprobs",
    "logprob_token_ids",
    "echo",
    "stop",
    "stop_token_ids",
    "return_token_ids",
    "return_prompt_text",
    "include",
)
_OWN_TOOLS = frozenset({"function", "custom"})

_fields = msgspec.json.Decoder(Fields)
_only_one = msgspec.json.Decoder(tuple[Raw])
_FIRST = re.compile(rb"\[[ \t\r\n]*(.)", re.DOTALL)
"""The beginning of a list, up to the first byte of its first value."""


def decode_fields(body: bytes) -> Fields:
    """Returns the top-level fields of a JSON object; of those that stand twice the last. Raises `BadBody`."""
    try:
        return _fields.decode(body) if len(body) <= LONG_BYTES else _fields_of_long(body)
    except UnicodeDecodeError:
        raise BadBody("the body is not UTF-8: send JSON in UTF-8") from None
    except RecursionError:
        raise BadBody("the body is nested too deeply: send a JSON object as OpenAI's API describes it") from None
    except msgspec.DecodeError as error:
        raise BadBody(f"the body is no JSON object that can be read: {error}") from None


class _FieldName:
    """A name that msgspec asks for before it goes on, so that the names can be counted."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _fields_of_long(body: bytes) -> Fields:
    count = 0

    def name(_: type, text: str) -> _FieldName:
        nonlocal count
        count += 1
        if count > MOST_FIELDS:
            raise BadBody(
                f"the body has more than {MOST_FIELDS:,} fields: send a JSON object as OpenAI's API describes it"
            )
        return _FieldName(text)

    found = msgspec.json.decode(body, type=dict[_FieldName, Raw], dec_hook=name)
    return {key.text: raw for key, raw in found.items()}


def strip_transfers(fields: Fields) -> None:
    """Takes out what a client must not write: it would name blocks that may be another client's."""
    fields.pop(_KV, None)
    # vLLM puts the values of this object where it puts the params.
    if "vllm_xargs" in fields:
        more = _read(fields, "vllm_xargs", dict[str, Raw] | None)
        if more and more.pop(_KV, None) is not None:
            fields["vllm_xargs"] = Raw(msgspec.json.encode(more))


@dataclass(slots=True)
class ClientBody:
    """One request's body, read once."""

    api: Api
    fields: Fields
    """All top-level fields, without those that clients must not write."""
    stream: bool
    several: bool
    """The client wants several answers to one prompt (n > 1)."""
    whole: bool
    """The request goes to a decode engine without a prefill elsewhere."""

    @property
    def path(self) -> str:
        """The path at which engines are asked."""
        return self.api

    @property
    def method(self) -> str:
        """The method with which they are."""
        return "POST"

    def affinity_key(self) -> bytes:
        """Returns the prompt's beginning, and what else decides which cached blocks it can use."""
        names = ("model", "cache_salt", "instructions", "tools", PROMPT[self.api])
        return b"\0".join(_beginning(self.fields.get(name), AFFINITY_BYTES) for name in names)

    def for_prefill(self) -> bytes:
        """Returns the body that a prefill engine is sent: one token, in one piece, and an offer of its blocks."""
        fields = {name: raw for name, raw in self.fields.items() if name not in _NOT_FOR_PREFILL}
        fields |= {LIMIT[self.api]: _ONE, "stream": _FALSE, "ignore_eos": _TRUE, _KV: ASKS_OFFER}
        if "max_completion_tokens" in self.fields:
            fields["max_completion_tokens"] = _ONE
        if self.api is Api.RESPONSES:
            fields["store"] = _FALSE
        return msgspec.json.encode(fields)

    def for_decode(self, params: Mapping[str, object] | None, *, keep_lease: bool, with_ids: bool = False) -> bytes:
        """Returns the body that a decode engine is sent.

        Args:
            params: the prefill engine's offer; None where the engine computes the prompt itself.
            keep_lease: the engine shall leave the lease alone if it refuses the request.
            with_ids: the answer shall have its tokens beside its text.
        """
        fields = self.fields
        if params is not None:
            sent = {**params, ON_REJECT: "return"} if keep_lease else params
            fields = {**fields, _KV: Raw(msgspec.json.encode(sent))}
        if with_ids:
            fields = {**fields, "return_token_ids": _TRUE}
        return msgspec.json.encode(fields)


@dataclass(frozen=True, slots=True)
class PlainBody:
    """A request that has no prefill, such as for the list of models: it passes as it is."""

    method: str
    path: str
    content: bytes
    stream: bool = False
    several: bool = False
    whole: bool = True


def for_release(params: Mapping[str, object]) -> bytes:
    """Returns the body of a request that is refused, upon which vLLM tells the producer that nobody will read."""
    return msgspec.json.encode({"model": UNKNOWN_MODEL, "prompt": [1], "max_tokens": 1, _KV: params})


def read_body(api: Api, body: bytes) -> ClientBody:
    """Returns a client's request. Raises `BadBody`."""
    fields = decode_fields(body)
    strip_transfers(fields)
    stream = bool(_read(fields, "stream", bool | None))
    several = is_set(fields, "n") and not is_text(fields, "n", b"1")
    return ClientBody(api, fields, stream, several, _goes_whole(api, fields))


def is_set(fields: Mapping[str, Raw], name: str) -> bool:
    """Tells whether a field is there and says more than nothing: not null, false, 0 or empty."""
    raw = fields.get(name)
    return raw is not None and _beginning(raw, 8) not in _NOTHING


def is_text(fields: Mapping[str, Raw], name: str, *texts: bytes) -> bool:
    """Tells whether a field is there and its JSON is one of these texts, which have at most 30 bytes."""
    raw = fields.get(name)
    return raw is not None and _beginning(raw, 31) in texts


def _beginning(raw: Raw | None, most: int) -> bytes:
    return b"" if raw is None else memoryview(raw)[:most].tobytes()


def _read(fields: Mapping[str, Raw], name: str, kind: Any) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    if memoryview(raw).nbytes > MOST_READ_BYTES:
        raise BadBody(f"{name} has more than {MOST_READ_BYTES:,} bytes: send less", name)
    try:
        # As pydantic does in vLLM, "true" and 1 are taken for true.
        return msgspec.json.decode(raw, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadBody(
            f"{name} is {brief(_beginning(raw, 60).decode(errors='replace'))}: it has another type", name
        ) from None


def _goes_whole(api: Api, fields: Fields) -> bool:
    """Tells whether a prefill elsewhere would be of no use to a request, or would change its answer.

    - Several prompts: an offer is one prompt's, and vLLM's decode engine takes it for all of them. Text and embeddings
      together are two.
    - Beam search: each beam is a request of its own.
    - Log-probabilities of the prompt: only who computes the prompt has them.
    - A prompt that is cut to fit: where, depends on how many tokens are asked for, so the two would differ.
    - An answer that one engine keeps and goes on from, or tools that the engine calls itself: prompts that no prefill
      engine can know.
    """
    if api is Api.RESPONSES:
        return (
            is_set(fields, "previous_response_id")
            or is_set(fields, "background")
            or (is_set(fields, "truncation") and not is_text(fields, "truncation", b'"disabled"'))
            or _has_engine_tools(fields)
        )
    if is_set(fields, "use_beam_search") or _is_given(fields, "prompt_logprobs"):
        return True
    if is_set(fields, "truncate_prompt_tokens") and not _is_plain_number(fields["truncate_prompt_tokens"]):
        # As a text, too, it is a number for vLLM.
        return True
    if api is Api.CHAT:
        return False
    if is_set(fields, "echo") and (_is_given(fields, "logprobs") or is_text(fields, "max_tokens", b"0")):
        return True
    if _is_given(fields, "prompt") and _is_given(fields, "prompt_embeds"):
        return True
    return _has_several_prompts(fields.get("prompt")) or _has_several_prompts(fields.get("prompt_embeds"))


def _is_given(fields: Fields, name: str) -> bool:
    """Tells whether a field is there and not null: 0 log-probabilities are those of the token itself."""
    return name in fields and not is_text(fields, name, b"null")


def _is_plain_number(raw: Raw) -> bool:
    return memoryview(raw).nbytes < 31 and _beginning(raw, 31).isdigit()


def _has_several_prompts(raw: Raw | None) -> bool:
    found = _FIRST.match(memoryview(raw)) if raw is not None else None
    # A list of numbers is one prompt, as tokens.
    if raw is None or found is None or found[1] in b"]-0123456789":
        return False
    try:
        _only_one.decode(raw)
    except msgspec.DecodeError:
        return True
    return False


def _has_engine_tools(fields: Fields) -> bool:
    if not is_set(fields, "tools"):
        return False
    if memoryview(fields["tools"]).nbytes > MOST_READ_BYTES:
        return True
    tools = _read(fields, "tools", list[dict[str, Raw]] | None) or []
    return any(_read(tool, "type", Any) not in _OWN_TOOLS for tool in tools)
