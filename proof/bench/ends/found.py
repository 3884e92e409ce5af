"""The findings about leases that are over: plain data, from which rows and goals are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proof.realengines.spec import Connector


@dataclass(frozen=True)
class ReadOutcomes:
    """Requests, by what came of them."""

    read: int = 0
    """Answered rightly from P's memory."""
    computed: int = 0
    """Answered rightly; D has computed the prompt once more."""
    wrong: int = 0
    """Answered as if nothing were wrong, with other tokens than an undisturbed engine's."""
    failed: int = 0
    """Answered with an error."""

    @property
    def count(self) -> int:
        return self.read + self.computed + self.wrong + self.failed

    def __add__(self, other: "ReadOutcomes") -> "ReadOutcomes":
        return ReadOutcomes(
            self.read + other.read,
            self.computed + other.computed,
            self.wrong + other.wrong,
            self.failed + other.failed,
        )

    def __str__(self) -> str:
        kinds = {
            "right from P's memory": self.read,
            "computed again": self.computed,
            "wrong": self.wrong,
            "failed": self.failed,
        }
        return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "none"


@dataclass
class Calm:
    """One request after the other with one connector, in ms: P's memory, by request."""

    held_ms: list[float] = field(default_factory=list)
    """The time from P's answer until its pool was whole again."""
    after_ms: list[float] = field(default_factory=list)
    """The time from D's answer until P's pool was whole again; negative where it was whole before that."""


@dataclass
class ArmFound:
    """All that was found with one connector."""

    calm: dict[int, Calm] = field(default_factory=dict)
    """The reads one after the other, by P's tensor parallelism."""
    late: ReadOutcomes = ReadOutcomes()
    """Read long after the term, while P's memory was free."""
    reused: ReadOutcomes = ReadOutcomes()
    """Read after the term, and after others were given P's memory."""
    after_abort: ReadOutcomes = ReadOutcomes()
    """Read by the next request after D had let go of the first one in its queue."""
    after_read: ReadOutcomes = ReadOutcomes()
    """Read once more after they had been read."""
    usable_s: list[float] = field(default_factory=list)
    """The time from D's death until P could use all of its memory, by death."""
    waits_share: list[float] = field(default_factory=list)
    """The share of a core that P took while leases waited and nothing ran."""
    rests_share: list[float] = field(default_factory=list)
    """The share of a core that P took before, with nothing out."""
    pause_s: list[float] = field(default_factory=list)
    """The time of a pause of P that keeps its cache."""
    reset_s: list[float] = field(default_factory=list)
    """The time of a pause of P that resets its cache, as before new weights."""
    after_pause: ReadOutcomes = ReadOutcomes()
    after_reset: ReadOutcomes = ReadOutcomes()
    stayed: list[bool] = field(default_factory=list)
    """Tells, for each P that was told to end, whether it was there when a lease that was out was read."""
    after_stay: ReadOutcomes = ReadOutcomes()
    ended_s: list[float] = field(default_factory=list)
    """The time from that read until P had ended."""


Found = Mapping[Connector, ArmFound]
