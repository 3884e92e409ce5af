"""A trial request: what was answered, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    """An engine's or a router's answer to the trial's request."""

    url: str
    status: int | None
    """HTTP's; None where there was no answer."""
    said: str
    """The beginning of the body, or the reason."""
    params: Mapping[str, Any] | None = None
    """Its kv_transfer_params."""

    @property
    def good(self) -> bool:
        """Tells whether the request was answered."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class HandOff:
    """A trial."""

    prefill: TrialAnswer | None = None
    """The prefill engine's answer; None where a router was tried."""
    side_channel: str | None = None
    """The reason for which the side channel that it offers cannot be reached from here."""
    answer: TrialAnswer | None = None
    """The decode engine's or the router's answer."""
    rose: Mapping[str, float] = field(default_factory=dict)
    """The counts that rose meanwhile on all given engines together, by the names in `trial.COUNTED`."""
    by_router: bool = False

    @property
    def engines_tell(self) -> bool:
        """Tells whether the engines' metrics show that the prefill was made."""
        return self.rose.get("granted", 0) > 0
