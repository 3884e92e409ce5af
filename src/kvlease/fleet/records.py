"""A request on its way through the fleet, and the lease that its prefill leaves behind."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvlease.fleet.decode import Consumer
    from kvlease.fleet.memory import Mark
    from kvlease.fleet.prefill import Producer


class Stage(IntEnum):
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


class Request:
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
        self.stage = Stage.ROUTED
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
        self.producer: Producer | None = None
        self.consumer: Consumer | None = None
        self.lease: Lease | None = None


class Lease:
    """Blocks of a producer that wait to be read. It knows no request: a second one may take it over."""

    __slots__ = (
        "blocks",
        "cleared",
        "expires",
        "freed",
        "life",
        "mark",
        "producer",
        "read",
        "token",
        "tokens",
        "wanted",
    )

    def __init__(self, token: int, producer: "Producer", blocks: int, tokens: int) -> None:
        self.token = token
        """Random, never 0: the request id for flat and stock, the token for kvlease."""
        self.producer = producer
        self.life = producer.life
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
    def crashed(self) -> bool:
        """Its producer has died since."""
        return self.life != self.producer.life
