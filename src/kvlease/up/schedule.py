"""The pauses before a process that has ended is started again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackOff:
    """Pauses that double from one end in a row to the next, up to a limit, and begin anew after good times."""

    first_s: float = 1.0
    most_s: float = 60.0
    healthy_s: float = 60.0
    """The time for which a process must have served, for its next end to be the first one in a row."""

    def pause_s(self, ends: int) -> float:
        """Returns the pause after so many ends in a row, from 1 on."""
        # The exponent is bounded, since a process may end for weeks.
        return min(self.first_s * 2.0 ** min(ends - 1, 30), self.most_s)
