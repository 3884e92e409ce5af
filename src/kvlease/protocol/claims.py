"""The records that a producer keeps of its consumers: their sessions, and what these claim."""

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
    """The claims among them that were not stated again since the last Hello."""
    reopen: bool
    state: ConsumerState


@dataclass(slots=True)
class ConsumerSession:
    """One consumer incarnation at this producer."""

    peer: int
    number: int
    """The session's number, given only once: a session that is opened anew has another one, and no claims."""
    state: ConsumerState = ConsumerState.CLOSED
    engine_id: str = ""
    """The consumer's engine, by its own word; nothing depends on it."""
    seq: int = -1
    """The seq of the last message applied. A repetition carries a new one, so a seq that is not greater changes nothing
    (S4)."""
    deadline: float = 0.0
    """The end of all that it claims; without claims, the end of the session itself."""
    heard_at: float = 0.0
    """The time at which its last message that was not stale was heard; nothing depends on it."""
    looked_at: float = 0.0
    """The time at which its timer is due: not after its deadline, and before it where the deadline has moved since."""
    claims: set[int] = field(default_factory=set)
    unstated: set[int] = field(default_factory=set)
    """Claims from before the last Hello that were not stated again since; dropped one extension after it."""
    reopen: bool = False
    """True when the producer has ended claims of it: the consumer is to say Hello and to state all claims again."""

    def happen(self, event: ConsumerEvent) -> None:
        """The session goes where the table says."""
        self.state = after(CONSUMER, self.state, event)

    def snapshot(self) -> ConsumerView:
        """Returns all that is known of the session now."""
        claims, unstated = frozenset(self.claims), frozenset(self.unstated)
        return ConsumerView(self.peer, self.number, self.seq, self.deadline, claims, unstated, self.reopen, self.state)
