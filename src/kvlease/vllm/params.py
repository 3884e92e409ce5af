"""Checks of `kv_transfer_params`, which any client may write, for what vLLM takes for granted.

Stock code reads them in the scheduler's and the worker's step, where a field that is missing or of another type raises
an exception that ends the engine. So they are checked when the request comes.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from kvlease.errors import BadReference, brief
from kvlease.protocol import Endpoint

_HOST = re.compile(r"[A-Za-z0-9._:%\[\]-]{1,255}")
"""A host name, or an IPv4 or IPv6 address: no character has another meaning for ZeroMQ, or in a log."""

ON_REJECT = "kv_lease_on_reject"
"""The key with which a router says what becomes of the lease should this engine refuse the request before it admits
it; without it the lease is dropped, as stock frees the blocks."""
RETURN = "return"
"""Its one value: the lease is left to another engine."""
MAX_NAME = 1024
MAX_RANKS = 4096
"""The most workers of one engine, in any kind of parallelism."""
MAX_GROUPS = 256
"""The most KV cache groups of one engine; hybrid models have a few."""
MAX_BLOCK = 1 << 31


def side_channel(params: Mapping[str, object]) -> Endpoint:
    """Returns the endpoint at which the producer of a leased prefill serves its card. Raises `BadReference`."""
    host, port = params.get("remote_host"), params.get("remote_port")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise BadReference(f"remote_host is {brief(host)}, it must be the host name or address of the producer")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise BadReference(f"remote_port is {brief(port)}, it must be a port number from 1 to 65535")
    return host, port


def without_blocks(offer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns vLLM's answer to a prefill that is not offered after all: the engine that gets it computes the prompt.

    A router that reads it finds all the fields of vLLM's answers, and no block (dynamo 15057).
    """
    nothing: list[list[int]] = [[] for _ in offer["remote_block_ids"]]
    return {**offer, "do_remote_prefill": False, "remote_block_ids": nothing, "remote_num_tokens": 0}


def unusable(params: Mapping[str, object], groups: int | None) -> str | None:
    """Returns why the prefill that these params refer to cannot be read; None when nothing is wrong with them.

    `groups`: KV cache groups of this engine; None for an engine that reads from other groupings as well. A field that
    has the right type and a wrong value fails later, and only its own request.
    """
    return _wrong_source(params) or _wrong_blocks(params.get("remote_block_ids"), groups) or _wrong_numbers(params)


def _wrong_source(params: Mapping[str, object]) -> str | None:
    for name in ("remote_engine_id", "remote_request_id", "remote_host"):
        value = params.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
            return f"{name} is {brief(value)}"
    port = params.get("remote_port")
    return None if _whole(port, 1, 65535) else f"remote_port is {brief(port)}"


def _wrong_blocks(groups_of_ids: object, groups: int | None) -> str | None:
    if not isinstance(groups_of_ids, list | tuple) or len(groups_of_ids) not in _counts(groups):
        return f"remote_block_ids is {brief(groups_of_ids)}, not a list for each of {groups or 'the'} KV cache groups"
    for ids in groups_of_ids:
        if not isinstance(ids, list | tuple) or not all(_whole(block, 0, MAX_BLOCK) for block in ids):
            return "remote_block_ids holds what is no block"
    return None


def _counts(groups: int | None) -> Collection[int]:
    return range(1, MAX_GROUPS + 1) if groups is None else (groups,)


def _wrong_numbers(params: Mapping[str, object]) -> str | None:
    for name in ("tp_size", "dcp_size", "pp_size"):
        if name in params and not _whole(params[name], 1, MAX_RANKS):
            return f"{name} is {brief(params[name])}"
    # Since vLLM 0.33 this counts how often the producer has registered its cache anew.
    generation = params.get("remote_registration_generation", 0)
    if not _whole(generation, 0, MAX_RANKS):
        return f"remote_registration_generation is {brief(generation)}"
    tokens, expiry = params.get("remote_num_tokens"), params.get("remote_blocks_expiry_time")
    if tokens is not None and not _whole(tokens, 0, MAX_BLOCK):
        return f"remote_num_tokens is {brief(tokens)}"
    if expiry is not None and (not isinstance(expiry, int | float) or isinstance(expiry, bool)):
        return f"remote_blocks_expiry_time is {brief(expiry)}"
    return None


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
