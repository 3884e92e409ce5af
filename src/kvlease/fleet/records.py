"""The records that engines, router and policies share: lives of engines, requests, and the leases of their prefills.

They are plain data, in which an engine is a number.
"""

from enum import IntEnum

from kvlease.fleet.settings import Side


class EngineLife:
    """One life of an engine, from its start to its crash. When it is over, all that was planned for it is void."""

    __slots__ = ("index", "over", "side")

    def __init__(self, side: Side, index: int) -> None:
        self.side = side
        self.index = index
        """The number of the engine among those of its side."""
        self.over = False


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
        "reference",
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
        self.reference: FleetLease | None = None
        """The lease of its latest prefill, which the router still knows when no engine wants it any more."""


class FleetLease:
    """A lease on a producer's blocks that wait to be read. It knows no request, since a second one may take it over."""

    __slots__ = ("blocks", "expires", "freed", "life", "read", "reused", "token", "tokens", "wanted", "wasted")

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
        self.wasted = False
        """True when it was freed and has not been read for a right answer."""
        self.freed = False
        """True while its blocks are free for others, or gone with their engine."""
        self.reused = False
        """True when one of its blocks has been given to somebody else, or its engine's memory is gone. Its fence is
        cleared then, which consumers see under kvlease only."""
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
