"""A request of the explored world, with what the product reads of vLLM's."""

from dataclasses import dataclass
from typing import Any

from kvlease.protocol import Fingerprint


@dataclass(slots=True)
class Request:
    """A prefill, or what waits for it; both have the number of their prompt."""

    request_id: str
    number: int
    kv_transfer_params: dict[str, Any] | None = None
    sampling_params: None = None


def prompt_of(request: Request) -> Fingerprint:
    """All prompts are as long as each other, and no two are the same."""
    return Fingerprint(1, request.number)
