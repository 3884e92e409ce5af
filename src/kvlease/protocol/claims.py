"""What a producer keeps in mind of a consumer: its session, and what that claims."""

from dataclasses import dataclass, field
from typing import NamedTuple

from kvlease.protocol.states import CONSUMER, ConsumerEvent, ConsumerState, after


class ConsumerView(NamedTuple):
    """A consumer's session, as its producer knows it."""

    consumer: int
    number: int
    seq: int
    deadline: float
    claims: frozenset[int]
    unstated: frozenset[int]
    """Of these, those that were not stated again since the last Hello."""
    reopen: bool
    state: ConsumerState


@dataclass(slots=True)
class ConsumerSession:
    """One consumer incarnation at this producer."""

    peer: int
    number: int
    """Never given twice: a session that was forgotten and is opened again is another one, without claims."""
    state: ConsumerState = ConsumerState.CLOSED
    seq: int = -1
    """Of the last message applied. A repetition carries a new one, so what is not newer changes nothing (S4)."""
    deadline: float = 0.0
    """Of all that it claims; without claims, of the session itself."""
    looked_at: float = 0.0
    """When its timer has it looked at: not after its deadline, and before it where that has moved on since."""
    claims: set[int] = field(default_factory=set)
    unstated: set[int] = field(default_factory=set)
    """Claims from before the last Hello that were not stated again since; dropped one extension after it."""
    reopen: bool = False
    """Claims of it were ended from here: its consumer is asked to say Hello and to state them all again."""

    def happen(self, event: ConsumerEvent) -> None:
        """The session goes where the table says."""
        self.state = after(CONSUMER, self.state, event)

    def snapshot(self) -> ConsumerView:
        """What is known of it now."""
        claims, unstated = frozenset(self.claims), frozenset(self.unstated)
        return ConsumerView(self.peer, self.number, self.seq, self.deadline, claims, unstated, self.reopen, self.state)
