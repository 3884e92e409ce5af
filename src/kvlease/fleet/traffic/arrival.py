"""The arrival of a request, with all that the traffic says about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it comes. `at`: seconds since the start, never falling. `prompt`, `output`: tokens, at least one."""

    at: float
    prompt: int
    output: int
