"""The records that engines, router and policies share: lives of engines, requests, and the leases of their prefills.

They are plain data, in which an engine is a number.
"""

from enum import IntEnum
from typing import Protocol

from kvlease.fleet.settings import Side


class EngineLife:
    """One life of an engine, from its start to its crash. When it is over, all that was planned for it is void."""

    __slots__ = ("index", "over", "side")

    def __init__(self, side: Side, index: int) -> None:
        self.side = side
        self.index = index
        """The number of the engine among those of its side."""
        self.over = False


class Mark(Protocol):
    """A mark of blocks that were given back while somebody may still read them."""

    @property
    def reused(self) -> bool:
        """Tells whether any of the blocks has been given to somebody else since."""


class RequestStage(IntEnum):
    """The place of a request on its way."""

    ROUTED = 0
    """The request is with the router, which looks for an engine or waits before it tries again."""
    PREFILL = 1
    """The request is queued on a producer, or computed there."""
    QUEUED = 2
    """The request is on a consumer, which has not begun to read."""
    READING = 3
    COMPUTED = 4
    """The prompt is computed by the consumer, which could not read it."""
    RUNNING = 5
    ENDED = 6


class FleetRequest:
    """One request of a client. `turn` changes with its engine, which voids what was planned at the old one."""

    __slots__ = (
        "arrived_at",
        "computed",
        "consumer",
        "first_token_at",
        "gone",
        "late",
        "lease",
        "number",
        "output",
        "producer",
        "prompt",
        "stage",
        "tainted",
        "tries",
        "turn",
    )

    def __init__(self, number: int, arrived_at: float, prompt: int, output: int) -> None:
        self.number = number
        self.arrived_at = arrived_at
        self.prompt = prompt
        self.output = output
        self.stage = RequestStage.ROUTED
        self.turn = 0
        self.tries = 0
        self.computed = False
        """True when a producer has computed its prompt before."""
        self.gone = False
        """True when its client has left; an engine may not know yet."""
        self.late = False
        """True when its blocks had been freed before the last byte of its read was here."""
        self.tainted = False
        """True when its blocks had even been given to others by then."""
        self.first_token_at = 0.0
        self.producer: int | None = None
        """The number of the producer that it is queued on, or computed by."""
        self.consumer: int | None = None
        self.lease: FleetLease | None = None


class FleetLease:
    """A lease on a producer's blocks that wait to be read. It knows no request, since a second one may take it over."""

    __slots__ = ("blocks", "cleared", "expires", "freed", "life", "mark", "read", "token", "tokens", "wanted")

    def __init__(self, token: int, life: EngineLife, blocks: int, tokens: int) -> None:
        self.token = token
        """A random number, never 0: the request id for flat and stock, the token for kvlease."""
        self.life = life
        """The life of its producer that granted it; a later one knows nothing of it."""
        self.blocks = blocks
        self.tokens = tokens
        """The tokens of the prompt."""
        self.wanted = True
        self.read = False
        """True when it was read for an answer that is right, as far as its KV cache goes."""
        self.cleared = False
        """True when its fence is cleared, which consumers see under kvlease only."""
        self.freed = False
        self.mark: Mark | None = None
        """The mark of blocks that were freed before they were read."""
        self.expires = 0.0
        """The time at which it expires, for flat and stock."""

    @property
    def producer(self) -> int:
        """The number of its producer."""
        return self.life.index

    @property
    def crashed(self) -> bool:
        """Tells whether its producer has died since."""
        return self.life.over

    @property
    def given_away(self) -> bool:
        """Tells whether any of its blocks is somebody else's by now. It means nothing for a lease that crashed."""
        return self.mark is not None and self.mark.reused
