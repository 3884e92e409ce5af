"""The settings of a simulation: the fleet, and its faults. They are plain data; numbers have their unit in the name.

The defaults are those of a model of 8 to 14 billion parameters on one H100-class GPU an engine, with 16-token blocks:
prefill at 16,000 tokens/s, decode steps of 12 to 30 ms, 128 KiB of KV cache a token, reads at 20 GB/s. A comparison
with the two tiny CPU engines of the tests has to make settings of its own.
"""

import math
from dataclasses import dataclass
from typing import Literal

from kvlease.errors import ConfigError

Reuse = Literal["oldest", "newest"]
"""The free blocks that are given out first. vLLM 0.32 takes the oldest with prefix caching, the newest without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The engines, the router and the clients. Raises `ConfigError` for impossible values."""

    producers: int = 8
    consumers: int = 16
    tensor_parallel: int = 1
    """The workers of each engine. Stock sends each heartbeat to every worker of a producer."""

    # -- producers ---------------------------------------------------------------------------------------------------
    block_tokens: int = 16
    producer_blocks: int = 25_000
    """The KV cache of one producer: 400,000 tokens."""
    reuse: Reuse = "oldest"
    unread_chances: int = 8
    """The number of times that a lease that lapsed unread is moved behind all free blocks (kvlease;
    `engine/unread.py`)."""
    prefill_fixed_s: float = 0.010
    """The fixed time of every prefill: scheduling, sampling, the way through the API server."""
    prefill_tokens_per_s: float = 16_000.0
    prefill_chunk_tokens: int = 8192
    """The most tokens of one step of a producer; at a step's end it applies heartbeats and frees blocks."""
    producer_idle_step_s: float = 0.001
    """The length of a step of a producer that has nothing to compute, while it holds blocks."""

    # -- consumers ---------------------------------------------------------------------------------------------------
    consumer_blocks: int = 30_000
    consumer_seats: int = 128
    """The most requests that one consumer runs at once (vLLM's `max_num_seqs`)."""
    step_fixed_s: float = 0.012
    step_per_request_s: float = 0.000_14
    """The time that each request adds to a decode step: n requests take `step_fixed_s + n * step_per_request_s`."""
    recompute_tokens_per_s: float = 16_000.0
    """The speed of a consumer that computes a prompt itself; its decoding stops meanwhile."""

    # -- network -----------------------------------------------------------------------------------------------------
    latency_s: float = 0.000_05
    """The latency of one message between engines."""
    kv_bytes_per_token: int = 131_072
    read_bytes_per_s: float = 20e9
    """The speed of one consumer's reads, which it makes one after the other."""
    hop_s: float = 0.002
    """The time from the router to an engine, or back."""
    death_seen_s: float = 0.06
    """The time from the death of a process until sends to it fail (measured on NIXL: 40 to 70 ms)."""
    agent_poll_s: float = 0.01
    """The time between two turns of a lease agent (kvlease; `agent/loop.py`)."""
    agent_reading_poll_s: float = 0.002
    """The same for 0.1 s after a claim, on both sides: what was claimed just now is soon read."""
    agent_connecting_poll_s: float = 0.001
    """The same for 0.05 s after a connection was begun: its first messages take many turns."""
    agent_wake_s: float = 0.001
    """The time until a lease agent takes a turn for its engine's word that a lease is wanted, or not any more."""
    card_s: float = 0.02
    """The time to fetch a lease card from a living producer (kvlease; measured: 20 to 70 ms, connections included)."""
    card_timeout_s: float = 2.0
    """The time until fetching a card from a producer that does not answer fails."""

    # -- router and clients ------------------------------------------------------------------------------------------
    slo_ttft_s: float = 2.0
    """The time to first token within which a right answer counts as goodput."""
    retries: int = 2
    """The further tries by the router when the engine of a request died; each prefills again."""
    retry_pause_s: float = 0.05
    takeover: bool = False
    """True: the router hands requests that waited on a dead consumer to another one with the same reference (R23)."""
    recompute: bool = True
    """The `kv_load_failure_policy`: compute a prompt whose KV cache cannot be read, or (False) fail the request."""
    patience_s: float | None = 120.0
    """The time without a first token after which a client leaves. None: clients wait for ever."""
    abort_share: float = 0.0
    """The share of clients that leave for reasons of their own."""
    abort_after_s: float = 2.0
    """The mean time from the request until such a client leaves (exponentially distributed)."""
    lost_share: float = 0.0
    """The share of requests that the router loses between prefill and decode."""

    def __post_init__(self) -> None:
        for name in ("producers", "consumers", "tensor_parallel", "block_tokens", "producer_blocks", "consumer_blocks"):
            _at_least(self, name, 1)
        for name in ("consumer_seats", "prefill_chunk_tokens", "kv_bytes_per_token"):
            _at_least(self, name, 1)
        for name in (
            "prefill_tokens_per_s",
            "recompute_tokens_per_s",
            "read_bytes_per_s",
            "step_fixed_s",
            "slo_ttft_s",
        ):
            _above_zero(self, name)
        for name in ("prefill_fixed_s", "step_per_request_s", "latency_s", "hop_s", "death_seen_s", "card_s"):
            _at_least(self, name, 0)
        for name in ("card_timeout_s", "retries", "retry_pause_s", "abort_after_s", "producer_idle_step_s"):
            _at_least(self, name, 0)
        _at_least(self, "unread_chances", 0)
        for name in ("agent_poll_s", "agent_reading_poll_s", "agent_connecting_poll_s", "agent_wake_s"):
            _above_zero(self, name)
        for name in ("abort_share", "lost_share"):
            _share(self, name)
        if self.patience_s is not None and not self.patience_s > 0:
            raise ConfigError(f"patience_s of the fleet is {self.patience_s!r}: it must be above 0, or None for no end")
        if self.reuse not in ("oldest", "newest"):
            raise ConfigError(f"reuse of the fleet is {self.reuse!r}: it must be 'oldest' or 'newest'")

    def blocks_of(self, tokens: int) -> int:
        """Returns the number of KV cache blocks that `tokens` take."""
        return -(-tokens // self.block_tokens)


Side = Literal["producer", "consumer"]
StallKind = Literal["step", "process"]
"""The kinds of stalls. `step`: one long step, in which the lease agent's thread runs on. `process`: nothing runs."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The death of one engine at `at` (seconds), all its processes at once. `index` counts from 0."""

    at: float
    side: Side
    index: int


@dataclass(frozen=True, slots=True)
class Stall:
    """The halt of one engine from `at` for `lasts_s` seconds."""

    at: float
    side: Side
    index: int
    lasts_s: float
    kind: StallKind = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFaults:
    """The faults while requests arrive: at given times, and by chance at a rate per engine and hour.

    Each engine and kind has a random stream of its own, so faults by chance are the same for every policy.
    """

    crashes: tuple[Crash, ...] = ()
    stalls: tuple[Stall, ...] = ()
    producer_crashes_per_hour: float = 0.0
    consumer_crashes_per_hour: float = 0.0
    restart_s: float = 60.0
    """The time from a crash until the engine serves again."""
    producer_stalls_per_hour: float = 0.0
    consumer_stalls_per_hour: float = 0.0
    stall_s: float = 10.0
    """The mean length of a stall (exponentially distributed)."""
    process_share: float = 0.5
    """The share of stalls that stop the whole process, lease agent included; the others are long steps."""

    def __post_init__(self) -> None:
        for name in ("producer_crashes_per_hour", "consumer_crashes_per_hour", "producer_stalls_per_hour"):
            _at_least(self, name, 0)
        for name in ("consumer_stalls_per_hour", "restart_s", "stall_s"):
            _at_least(self, name, 0)
        _share(self, "process_share")
        given: tuple[Crash | Stall, ...] = (*self.crashes, *self.stalls)
        for fault in given:
            if fault.at < 0 or fault.index < 0 or fault.side not in ("producer", "consumer"):
                raise ConfigError(f"{fault} cannot be: time and index are at least 0, side is 'producer' or 'consumer'")
        for stall in self.stalls:
            if not stall.lasts_s > 0 or stall.kind not in ("step", "process"):
                raise ConfigError(f"{stall} cannot be: it lasts longer than 0 s, its kind is 'step' or 'process'")


def _at_least(of: object, name: str, low: float) -> None:
    value = getattr(of, name)
    if not (math.isfinite(value) and value >= low):
        raise ConfigError(f"{name} is {value!r}: it must be a number that is at least {low:g}")


def _above_zero(of: object, name: str) -> None:
    value = getattr(of, name)
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} is {value!r}: it must be a number above 0")


def _share(of: object, name: str) -> None:
    value = getattr(of, name)
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value!r}: it must be a share from 0 to 1")


NO_FAULTS = FleetFaults()
