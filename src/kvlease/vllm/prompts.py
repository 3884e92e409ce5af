"""Facts about a request of vLLM: its prompt's fingerprint, its parent, and whether its client is told of its blocks."""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from kvlease.protocol.prompt import Fingerprint, Media, fingerprint

if TYPE_CHECKING:
    from vllm.v1.request import Request

_CHILD = re.compile(r"\d+_(.+)", re.DOTALL)
"""The name of a child of a request with n > 1, which vLLM prefixes with its index: "2_cmpl-…"."""
_LISTED = re.compile(r"(?:\d+_)?cmpl-.*?-(?P<index>\d{1,6})(?:-[0-9a-f]{8})?", re.DOTALL)
"""The name of a completion's request for one prompt of a list: before its place in the list, a sibling's index
(n > 1); after it, vLLM's own random suffix."""
_NUMBERED = re.compile(r"renderer\d+-mm-\d+-\w+-\d+")
"""The name that vLLM gives to an input that is not text, with running numbers instead of a hash, where neither of the
caches that need the hash is on."""


def fingerprint_of(request: "Request") -> Fingerprint:
    """Returns the fingerprint of all that vLLM puts into a prompt's block hashes, and of the token ids.

    The block hashes' part is that of `generate_block_hash_extra_keys`, without the path of an adapter's files, which
    may differ between machines. The benchmark `prompt` measures the cost, except that of hashing embeddings.
    """
    adapter, mask = request.lora_request, request.prompt_is_token_ids
    media = [(_identity_of(item), item.mm_position) for item in request.mm_features or ()]
    return fingerprint(
        request.prompt_token_ids,
        tokens=request.num_prompt_tokens,
        adapter=adapter.lora_name if adapter else None,
        salt=request.cache_salt,
        media=[Media(identifier, place.offset, place.length) for identifier, place in media],
        embeddings=_hash_of(request.prompt_embeds),
        mask=None if mask is None else bytes(mask),
    )


def _identity_of(item: Any) -> str:
    """Returns an identifier that is the same for the same content, in every engine."""
    identifier: str = item.identifier
    if item.data is None or _NUMBERED.search(identifier) is None:
        return identifier
    from vllm.multimodal.hasher import MultiModalHasher

    content = MultiModalHasher.hash_kwargs("sha256", **item.data.get_data())
    return _NUMBERED.sub(content, identifier)


def _hash_of(embeddings: Any) -> bytes | None:
    if embeddings is None:
        return None
    import torch

    # Viewed as bytes, since numpy has no bfloat16.
    return hashlib.sha256(embeddings.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()).digest()


def has_siblings(request_id: str) -> bool:
    """Tells by its name whether a request is one of several children of a request with n > 1."""
    return _CHILD.fullmatch(request_id) is not None


def parent_of(request: "Request") -> str | None:
    """Returns the name of the request with n > 1 that this one is a child of, if its client gets one answer for all."""
    child = _CHILD.fullmatch(request.request_id)
    return child[1] if child is not None and _answers_once(request) else None


def _answers_once(request: "Request") -> bool:
    """Tells whether the client gets one answer when all that it asked for is done, and so one reference."""
    kind = getattr(request.sampling_params, "output_kind", None)
    return getattr(kind, "name", None) == "FINAL_ONLY"


def is_answered(request: "Request") -> bool:
    """Tells whether the client is told of this request's blocks.

    A completion of several prompts makes a request for each, and its one answer has the `kv_transfer_params` of the
    first alone (vLLM's `OpenAIServingCompletion`): nobody will ever read what was computed for the others. (A stream
    has those of each from vLLM 0.33 on.)
    """
    listed = _LISTED.fullmatch(request.request_id) if _answers_once(request) else None
    return listed is None or listed["index"] == "0"
