"""A flat timeout: blocks are held until they are read, or for a fixed time after the prefill.

vLLM before 0.21 did so (`VLLM_NIXL_ABORT_REQUEST_TIMEOUT`, 480 s by default), as most comparable systems do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.errors import ConfigError
from kvlease.fleet.context import FleetContext
from kvlease.fleet.leasing import Leasing
from kvlease.fleet.policies.notices import NoticeLeasing


@dataclass(frozen=True, slots=True)
class Flat:
    """The policy of a flat timeout. `term_s`: seconds, above 0. Raises `ConfigError`."""

    term_s: float = 480.0

    def __post_init__(self) -> None:
        if not 0 < self.term_s < float("inf"):
            raise ConfigError(f"the term of a flat timeout is {self.term_s!r}: give seconds above 0, such as 480")

    @property
    def name(self) -> str:
        return f"flat {self.term_s:g} s"

    @property
    def kind(self) -> str:
        return "flat"

    @property
    def references_last(self) -> bool:
        return False

    @property
    def settings(self) -> Mapping[str, float]:
        return {"term_s": self.term_s}

    def open(self, context: FleetContext) -> Leasing:
        return NoticeLeasing(context, self.term_s)
