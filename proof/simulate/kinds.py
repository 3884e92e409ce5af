"""The kinds of fault, and one fault of a plan."""

from dataclasses import dataclass
from enum import Enum


class FaultKind(Enum):
    """The kinds of fault. `PlannedFault.amount` has the meaning that each of them gives it."""

    LOSS = "loss"
    """Messages of a link are lost with probability `amount`."""
    REPEAT = "repeat"
    """Messages of a link arrive again, up to seconds later, with probability `amount`."""
    DELAY = "delay"
    """Messages of a link take heavy-tailed times (Pareto) around `amount` seconds, and overtake each other."""
    CLOG = "clog"
    """A link holds everything back, and delivers it at once in the end."""
    CUT = "cut"
    """Nothing passes a link in this one direction; data reads across it neither end nor fail."""
    PARTITION = "partition"
    """Nothing passes between two engines in either direction."""
    CRASH = "crash"
    """An engine is killed, and started again when the fault ends; others notice, unless `amount` is 1."""
    RESTART = "restart"
    """An engine shuts down in good order, and is started again when the fault ends."""
    FREEZE = "freeze"
    """Nothing of an engine runs (SIGSTOP, swapping); its memory can still be read."""
    SLOW_LOOP = "slow_loop"
    """An engine's agent takes a turn only every `amount` seconds."""
    LONG_STEP = "long_step"
    """An engine's next step lasts until the fault ends; its agent runs."""
    PAUSE = "pause"
    """An engine begins no step but those that its own leases need, as vLLM's `/pause?mode=keep`; its agent runs."""
    CLOCK = "clock"
    """An engine's clock runs faster by the share `amount` of one (slower where negative)."""
    FALSE_DEATH = "false_death"
    """An engine's transport says that the other one is dead, which it is not."""
    ECHO = "echo"
    """An old message of a link, of any kind and the share `amount` back in its history, arrives once more."""
    MALFORMED = "malformed"
    """Bytes that are no message arrive at an engine's agent."""
    SLOW_READ = "slow_read"
    """Data and fence reads of an engine take `amount` seconds."""
    READ_ERROR = "read_error"
    """Fence reads of an engine fail with probability `amount`, those of a block with a tenth of it."""
    NO_CARD = "no_card"
    """An engine's side channel does not answer."""
    AGENT_DEATH = "agent_death"
    """An engine's agent dies of a bug; its engine lives on."""
    RESET = "reset"
    """An engine resets its cache, as for new weights."""
    REVOKE = "revoke"
    """An operator ends leases that an engine holds: each with probability `amount`."""
    BUSY = "busy"
    """An engine answers a router with 503 before it admits a request."""
    ERROR = "error"
    """An engine answers a router with 500 before it admits a request."""
    DRAIN = "drain"
    """An engine aborts what a router sends it; where `amount` is 1, also what it has when the fault begins."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """`kind` befalls `engine` (for a link: what it sends to `other`) at `at_s`, for `for_s` seconds."""

    kind: FaultKind
    at_s: float
    for_s: float
    engine: str
    other: str = ""
    amount: float = 0.0

    def __str__(self) -> str:
        where = f"{self.engine}>{self.other}" if self.other else self.engine
        return f"{self.kind.value}({where}, {self.amount:g}) at {self.at_s:.3f} s for {self.for_s:.3f} s"
