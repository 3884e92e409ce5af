"""The policy: how often, how soon and in which ways a request is sent again, and how long each phase may take."""

from dataclasses import dataclass, field, fields
from random import Random

from kvlease.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """The time that each phase of a call may take; beyond it the engine is `SILENT`. The driver keeps them.

    They are long, since a prompt may wait in an engine's queue: that an engine is dead is seen by its connection and by
    the health polls, long before.
    """

    connect_s: float = 1.0
    """The connection. Beyond it the engine is `UNREACHABLE`, not `SILENT`: it has seen nothing. It is short, since a
    lease whose reader died is held for `kv_lease_orphan_grace` (1 s) only."""
    prefill_s: float = 300.0
    """The prefill engine's whole answer."""
    first_token_s: float = 300.0
    """A stream's first token: the read, and the wait in the decode engine's queue."""
    between_tokens_s: float = 60.0
    """A stream's next chunk, after its first."""
    whole_answer_s: float = 3600.0
    """An answer that is no stream, from the first to the last token."""
    release_s: float = 2.0
    """Each step of a `ReleaseLease`."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The policy of retries. Raises `ConfigError` for impossible values."""

    prefill_attempts: int = 3
    """The most calls to prefill engines for one request, or for one continuation of its stream."""
    decode_attempts: int = 4
    """The most calls to decode engines for one request, or for one continuation of its stream."""
    errors_each_way: int = 2
    """The number of `ERROR` answers after which a request goes another way: from prefill engines to the whole prompt on
    a decode engine; from a reference to a new prefill, since the lease may be what the engines stumble over."""
    errors: int = 4
    """The number of `ERROR` answers after which the engine's own answer is passed on: vLLM answers some mistakes of
    clients with 500, and all engines would say the same."""
    cuts: int = 3
    """The number of `CUT` connections after which a request is given up: it may be what kills the engines."""
    backoff_base_s: float = 0.05
    """The most that the second retry waits. Each further one may wait twice as long; how long it does is drawn from 0
    on ("full jitter": Marc Brooker, Exponential Backoff And Jitter, AWS 2015). The first retry does not wait: the grace
    of a lease whose reader died is short."""
    backoff_max_s: float = 1.0
    """The most that any retry waits."""
    whole_prompt_on_decoder: bool = True
    """A decode engine computes the whole prompt where no prefill engine can."""
    continue_streams: bool = False
    """A stream whose engine died goes on at another one, where the request can be continued."""
    continuations: int = 3
    """The most continuations of one stream."""
    retry_ratio: float = 0.2
    """The retries that each request adds to the budget of all (`RetryBudget`)."""
    retry_floor_per_s: float = 10.0
    """The retries that each second adds to it, so that a router with few requests can retry too."""
    retry_reserve: int = 500
    """The most retries that it holds, and those that it begins with: all requests of an engine that dies come at
    once."""
    limits: TimeLimits = field(default_factory=TimeLimits)

    def __post_init__(self) -> None:
        _check_positive(self)
        if self.backoff_max_s < self.backoff_base_s:
            raise ConfigError(
                f"backoff_max_s = {self.backoff_max_s} is less than backoff_base_s = {self.backoff_base_s}; "
                "allowed: at least as much, e.g. 0.05 and 1"
            )

    def delay_s(self, retry: int, chance: Random) -> float:
        """Returns how long the retry with this number (1 for a request's first) waits, between 0 and
        `backoff_max_s`."""
        if retry <= 1:
            return 0.0
        doublings = min(retry - 2, 30)
        return chance.uniform(0.0, min(self.backoff_max_s, self.backoff_base_s * 2.0**doublings))


_MAY_BE_ZERO = ("continuations", "retry_ratio", "retry_floor_per_s", "retry_reserve", "backoff_base_s", "backoff_max_s")


def _check_positive(settings: object) -> None:
    """Raises `ConfigError` for a number that makes no sense."""
    for each in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, each.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least_is_zero = each.name in _MAY_BE_ZERO
        if not (value >= 0 if least_is_zero else value > 0) or value == float("inf"):
            raise ConfigError(
                f"{each.name} = {value} is not allowed: a number that is finite and "
                f"{'not negative' if least_is_zero else 'more than 0'}, e.g. {each.default}"
            )


class RetryBudget:
    """The retries that all requests of a router may still make: a token bucket, as Finagle's and gRPC's.

    Engines that are overloaded fail many requests, and would be asked up to `decode_attempts` times as often by those
    who have not. The bucket lets retries be a share of the requests, and a few more.
    """

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self._policy = policy
        self._left = float(policy.retry_reserve)
        self._at = now

    def begun(self, now: float) -> None:
        """Notes a new request."""
        self._add(now, self._policy.retry_ratio)

    def take(self, now: float) -> bool:
        """Takes one retry. Returns False where none is left."""
        self._add(now, 0.0)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def left(self, now: float) -> float:
        """Returns how many retries are left."""
        passed_s = max(0.0, now - self._at)
        return min(float(self._policy.retry_reserve), self._left + passed_s * self._policy.retry_floor_per_s)

    def _add(self, now: float, retries: float) -> None:
        self._left = min(float(self._policy.retry_reserve), self.left(now) + retries)
        self._at = max(self._at, now)
