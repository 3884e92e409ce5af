"""A request as it comes in: all that the traffic says about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at`: seconds since the start, never falling. `prompt` and `output`: tokens, at least one of each."""

    at: float
    prompt: int
    output: int
