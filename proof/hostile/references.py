"""Anything that a router or a client may hand over as `kv_transfer_params`, and the rules for it (R9, R14).

It is JSON as Python's parser makes it: any nesting, any size of a number, lone surrogates, NaN. The server in front
decides how much of that reaches the engine, which must bear all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvlease.errors import BadReference
from kvlease.protocol import LeaseRef
from kvlease.protocol.lease import MAX_SLOTS, MAX_TERM_MS, MAX_TOKENS, REF_VERSION
from kvlease.protocol.prompt import fingerprint
from proof.hostile.choices import Choices
from proof.hostile.wire import MAX_U64, is_one_line

KNOWN = 0xA
"""The incarnation of an honest producer."""
DEEP = 3000
"""A nesting deeper than the interpreter recurses."""
TOKEN_IDS = tuple(range(64))
"""The prompt of every request here."""
PROMPT = fingerprint(TOKEN_IDS, tokens=len(TOKEN_IDS))
REMARKABLE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -0.0,
    1,
    1.0,
    -1,
    0.5,
    2**53 + 1,
    2**64 - 1,
    2**64,
    10**5000,
    -(10**5000),
    1e308,
    float("inf"),
    float("nan"),
    "",
    "\ud800",
    "\x00",
    "\n2026 ERROR",
    "0" * 16,
    "f" * 16,
    "F" * 16,
    "\u0661" * 16,
    "0" * 17,
    "x" * 10_000,
    [],
    {},
)


def nested(kind: int, depth: int) -> Any:
    """A list in a list, or an object in an object."""
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind == 0 else {"kv_lease": value}
    return value


def some_json(choices: Choices, depth: int = 3) -> Any:
    kind = choices.below(8 if depth else 5)
    if kind < 3:
        return choices.pick(REMARKABLE)
    if kind == 3:
        return choices.u64()
    if kind == 4:
        # JSON can write lone surrogates, too.
        units = choices.take(choices.below(24))
        return units[: len(units) & ~1].decode("utf-16-le", "surrogatepass")
    if kind == 5:
        return nested(choices.below(2), choices.pick((1, 100, DEEP)))
    if kind == 6:
        return [some_json(choices, depth - 1) for _ in range(choices.below(5))]
    return {choices.pick(KEYS): some_json(choices, depth - 1) for _ in range(choices.below(5))}


KEYS = (
    "version",
    "incarnation",
    "token",
    "slot",
    "term_ms",
    "prompt_tokens",
    "prompt_digest",
    "prompt_media",
    "kv_lease",
    "remote_host",
    "remote_port",
    "",
    "\ud800",
)


def right_lease(choices: Choices) -> dict[str, Any]:
    """A lease of a reference as a producer writes it; the producer may be known or made up."""
    incarnation, token = choices.pick((KNOWN, choices.u64())), choices.u64() or 1
    return LeaseRef(incarnation, token, choices.pick((0, 63, 64, MAX_SLOTS - 1)), 30_000, PROMPT).to_params()


@dataclass(frozen=True)
class SomeRequest:
    """A stand-in for vLLM's request, with as much as kvlease's scheduler half looks at before vLLM does."""

    request_id: str
    kv_transfer_params: Any
    abort_immediately: bool = False
    sampling_params: None = None
    prompt_token_ids: tuple[int, ...] = TOKEN_IDS
    num_prompt_tokens: int = len(TOKEN_IDS)
    prompt_embeds: None = None
    prompt_is_token_ids: None = None
    lora_request: None = None
    cache_salt: None = None
    mm_features: tuple[()] = ()


def as_vllm(request: SomeRequest) -> Any:
    """The request, typed for functions that take one of vLLM's."""
    return request


OFFER: dict[str, Any] = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_engine_id": "P",
    "remote_request_id": "cmpl-1",
    "remote_block_ids": [[1, 2]],
    "remote_host": "p.example",
    "remote_port": 5600,
    "tp_size": 1,
}
"""The params that a producer writes to an engine with one KV cache group, without the lease."""


def some_params(choices: Choices) -> dict[str, Any]:
    """Params mostly of the right form, with some of them replaced."""
    params = OFFER | {
        "remote_host": choices.pick(("127.0.0.1", "p.example", "::1", "*", "a;b", "h" * 256, "h\x00", "\ud800")),
        "remote_port": choices.pick((5600, 1, 65535, 65536, 0)),
        "kv_lease": right_lease(choices),
    }
    for _ in range(choices.below(4)):
        params[choices.pick(tuple(params))] = some_json(choices)
    for _ in range(choices.below(3)):
        lease = params.get("kv_lease")
        if isinstance(lease, dict):
            lease[choices.pick((*right_lease(choices), "new"))] = some_json(choices)
    for _ in range(choices.below(2)):
        params.pop(choices.pick(tuple(params)), None)
    return params


def reference_holds(params: object) -> LeaseRef | None:
    """Asserts that `kv_lease` is read as the producer wrote it, or refused in few words; returns what was read."""
    try:
        ref = LeaseRef.from_params(params)
    except BadReference as error:
        is_one_line(str(error))
        return None
    assert isinstance(params, Mapping)
    for value, low, high in (
        (ref.incarnation, 0, MAX_U64),
        (ref.token, 1, MAX_U64),
        (ref.slot, 0, MAX_SLOTS - 1),
        (ref.term_ms, 1, MAX_TERM_MS),
        (ref.prompt.tokens, 1, MAX_TOKENS),
        (ref.prompt.digest, 0, MAX_U64),
    ):
        assert type(value) is int
        assert low <= value <= high
    written = ref.to_params()
    assert {name: params[name] for name in written} == written
    assert written["version"] == REF_VERSION
    assert LeaseRef.from_params(written) == ref
    return ref
