"""One request's way through the router: a state machine, driven by the table `REQUEST`. Sans-I/O.

Its driver reports what has happened, and carries out the actions that it gets. The order of a call's reports:

    prefill   AskPrefill → prefilled | failed
    decode    AskDecode → began → finished | failed       a stream: `began` with the first chunk that has a token
              AskDecode → finished | failed               a whole answer: nothing reaches the client before

A call that was reported `failed` is over: the driver has closed its connection. A time limit is
`failed(now, EngineFailure.SILENT)`. It reports nothing more of a call that it was told to `Cancel`, and nothing of any
kind after the end but `client_gone`, which is harmless there.
"""

from collections.abc import Callable, Sequence
from random import Random

from kvlease.router.actions import Action, KvReference
from kvlease.router.failures import EngineFailure
from kvlease.router.fleet import EngineFleet
from kvlease.router.policy import RetryBudget, RetryPolicy


class RoutedRequest:
    """One request of a client. Not thread-safe.

    It counts its own calls in the fleet (`EngineFleet.begun`, `ended`), whatever way it ends.
    """

    def __init__(
        self,
        fleet: EngineFleet,
        policy: RetryPolicy,
        budget: RetryBudget,
        chance: Random,
        *,
        keys: Sequence[bytes] = (),
        prefill: bool = True,
        continuable: bool = False,
        tell: Callable[[object], None] | None = None,
    ) -> None:
        """`keys`: of its prompt's beginning (`affinity.keys_of`). `prefill`: False for what carries no KV, or goes whole
        to a decode engine. `continuable`: its stream may be continued by another engine (greedy, one answer, no tools,
        ...), if the policy allows it. `tell` hears facts."""

    @property
    def ended(self) -> bool:
        """True after its end: the client has all that it will get."""
        return False

    def start(self, now: float) -> tuple[Action, ...]:
        """The request has been admitted."""
        return ()

    def prefilled(self, now: float, reference: KvReference | None) -> tuple[Action, ...]:
        """The prefill engine has answered, and offers what it has computed; None: it offers nothing, which is no
        failure (a prompt shorter than a block)."""
        return ()

    def failed(self, now: float, failure: EngineFailure, retry_after_s: float | None = None) -> tuple[Action, ...]:
        """The call that is under way has failed. `retry_after_s`: the engine's `Retry-After`."""
        return ()

    def began(self, now: float) -> tuple[Action, ...]:
        """The decode engine's first token is there; from now on the client has a part of the answer."""
        return ()

    def finished(self, now: float) -> tuple[Action, ...]:
        """The decode engine's answer is complete."""
        return ()

    def client_gone(self, now: float) -> tuple[Action, ...]:
        """The client has closed its connection."""
        return ()
