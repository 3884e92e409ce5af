"""What engines, router and policies hand to each other: lives of engines, requests, and the leases of their prefills.

Plain data: an engine is named by its number here, and whoever needs more of it than its number has it already.
"""

from enum import IntEnum
from typing import Protocol

from kvlease.fleet.settings import Side


class EngineLife:
    """One life of an engine, from its start to its crash. What was planned for it is void when it is over."""

    __slots__ = ("index", "over", "side")

    def __init__(self, side: Side, index: int) -> None:
        self.side = side
        self.index = index
        """Of the engine, among those of its side."""
        self.over = False


class Mark(Protocol):
    """Blocks that were given back while somebody may still read them."""

    @property
    def reused(self) -> bool:
        """Whether any of them has been given to somebody else since."""


class RequestStage(IntEnum):
    """Where a request is."""

    ROUTED = 0
    """With the router, which looks for an engine or waits before it tries again."""
    PREFILL = 1
    """Queued on a producer, or computed there."""
    QUEUED = 2
    """On a consumer, which has not begun to read."""
    READING = 3
    COMPUTED = 4
    """Computed by its consumer, which could not read it."""
    RUNNING = 5
    ENDED = 6


class FleetRequest:
    """One request of a client. `turn` changes with its engine, so that what was planned for the old one is void."""

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
        """Some producer has computed its prompt before."""
        self.gone = False
        """Its client has left; an engine may not know yet."""
        self.late = False
        """When the last byte of its read was in, the blocks had been taken back."""
        self.tainted = False
        """They had even been given to others by then."""
        self.first_token_at = 0.0
        self.producer: int | None = None
        """That it is queued on, or computed by."""
        self.consumer: int | None = None
        self.lease: FleetLease | None = None


class FleetLease:
    """Blocks of a producer that wait to be read. It knows no request: a second one may take it over."""

    __slots__ = ("blocks", "cleared", "expires", "freed", "life", "mark", "read", "token", "tokens", "wanted")

    def __init__(self, token: int, life: EngineLife, blocks: int, tokens: int) -> None:
        self.token = token
        """Random, never 0: the request id for flat and stock, the token for kvlease."""
        self.life = life
        """Of its producer: a later one knows nothing of it."""
        self.blocks = blocks
        self.tokens = tokens
        """Of the prompt."""
        self.wanted = True
        self.read = False
        """For a right answer, as far as its KV goes."""
        self.cleared = False
        """Its fence: read by consumers under kvlease only."""
        self.freed = False
        self.mark: Mark | None = None
        """Of blocks that were freed before they were read."""
        self.expires = 0.0
        """Flat and stock: when."""

    @property
    def producer(self) -> int:
        """The number of its producer."""
        return self.life.index

    @property
    def crashed(self) -> bool:
        """Whether its producer has died since."""
        return self.life.over

    @property
    def given_away(self) -> bool:
        """Whether any of its blocks is somebody else's by now. Nothing can be said of a lease that crashed."""
        return self.mark is not None and self.mark.reused
