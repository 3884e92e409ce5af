"""What a request of vLLM computes, whose child it is, and whether anybody hears of it."""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from kvlease.protocol.prompt import Fingerprint, Media, fingerprint

if TYPE_CHECKING:
    from vllm.v1.request import Request

_CHILD = re.compile(r"\d+_(.+)", re.DOTALL)
"""vLLM names the children of a request with n > 1 by their index: "2_cmpl-…"."""
_LISTED = re.compile(r"(?:\d+_)?cmpl-.*?-(?P<index>\d{1,6})(?:-[0-9a-f]{8})?", re.DOTALL)
"""A completion's prompt, by its place in the list, and with it vLLM's own random end of a name; before it, a sibling's
number (n > 1)."""
_NUMBERED = re.compile(r"renderer\d+-mm-\d+-\w+-\d+")
"""What vLLM calls an input that is no text where neither of the caches that would ask for its hash is on: it counts."""


def fingerprint_of(request: "Request") -> Fingerprint:
    """All that vLLM puts into the hashes of the prompt's blocks (`generate_block_hash_extra_keys`), and the token ids.

    But for where an adapter's files lie, which may be elsewhere on each machine. What it costs is a benchmark
    (`prompt`); embeddings, which are not in it, are hashed byte by byte.
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
    """The same for the same content, in every engine."""
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

    # As bytes: numpy knows no bfloat16.
    return hashlib.sha256(embeddings.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()).digest()


def has_siblings(request_id: str) -> bool:
    """Whether a request is one of several of its parent's (n > 1), by its name."""
    return _CHILD.fullmatch(request_id) is not None


def parent_of(request: "Request") -> str | None:
    """Of a request with n > 1 whose client gets one answer for all its children, that request's name."""
    child = _CHILD.fullmatch(request.request_id)
    return child[1] if child is not None and _answers_once(request) else None


def _answers_once(request: "Request") -> bool:
    """Whether the client gets one answer when all that it asked for is done, and so one reference."""
    kind = getattr(request.sampling_params, "output_kind", None)
    return getattr(kind, "name", None) == "FINAL_ONLY"


def is_answered(request: "Request") -> bool:
    """Whether the client is told of this request's blocks.

    A completion of several prompts is a request each, and its one answer has the `kv_transfer_params` of the first
    alone (vLLM's `OpenAIServingCompletion`): nobody will ever read what was computed for the others. (A stream has
    those of each from vLLM 0.33 on.)
    """
    listed = _LISTED.fullmatch(request.request_id) if _answers_once(request) else None
    return listed is None or listed["index"] == "0"
