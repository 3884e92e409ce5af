"""The gauges: how things are at the moment."""

from kvlease.metrics.metric import Kind, Metric, Ranks, Value

PINNED = "num_kv_pinned_{} (vllm#58004)"
_UNHEARD = {
    "dead": Value(
        "the transport has reported the consumer's process dead; they are over as soon as the grace is",
        "0",
        "it stays: `kv_lease_orphan_grace` is long, and D dies often",
    ),
    "silent": Value(
        "the consumer has not renewed for longer than two of its intervals",
        "0",
        "it is above 0 for longer than `kv_lease_extension`, or often: a D whose process stands still, or that cannot "
        "be reached",
    ),
}


def _gauge(name: str, meaning: str, good: str = "", worry: str = "", **more: object) -> Metric:
    return Metric(name, Kind.GAUGE, meaning, good, worry, **more)  # type: ignore[arg-type]


def _unheard(what: str, meaning: str) -> Metric:
    # A worry is told once, with the leases.
    values = _UNHEARD if what == "leases" else {value: Value(said.meaning) for value, said in _UNHEARD.items()}
    return _gauge(f"unheard_{what}", meaning, label="consumer", values=values)


GAUGES = (
    _gauge(
        "active_leases",
        "Leases granted and not over; 0 on a producer is the signal that it is drained.",
        "follows the traffic; back to 0 when nothing waits",
        "it stays while there is no traffic: `unheard_leases` and `GET /v1/kvlease/leases` say for whom",
        like=PINNED.format("requests"),
    ),
    _gauge(
        "claimed_leases",
        "Leases among them that a consumer's session claims; the others wait for their first reader.",
        "nearly all of `active_leases`",
        "`active_leases` is far above it: requests wait long between prefill and decode, at a router or in D's queue",
    ),
    _gauge(
        "held_tokens",
        "Tokens of the prompts of leases that are not over.",
        "follows the traffic",
        like=PINNED.format("tokens"),
    ),
    _gauge(
        "held_blocks",
        "KV cache blocks held for consumers, out of the engine's pool.",
        "follows the traffic; back to 0 when nothing waits",
        "it grows to what P has: decode engines are too slow, or hang",
    ),
    _gauge(
        "held_bytes",
        "Memory of these blocks on all workers of the engine together: each block counts with the pages of all layers "
        "that it stands for.",
        "follows the traffic",
    ),
    _gauge(
        "lapsed_leases",
        "Leases that are over and can still be read: their blocks are free, and not yet reused.",
        "whatever fits into P's free memory, also when nothing runs",
        "never: these blocks are free",
    ),
    _gauge("lapsed_tokens", "Tokens of the prompts of lapsed leases."),
    _gauge("lapsed_blocks", "KV cache blocks of lapsed leases; they are free, and cost nothing.", "as `lapsed_leases`"),
    _gauge("lapsed_bytes", "Memory of these blocks on all workers of the engine together; it is free."),
    _unheard("leases", "Leases held for consumers that are not heard any more; one with several counts for each kind."),
    _unheard("tokens", "Tokens of the prompts of these leases."),
    _unheard("blocks", "KV cache blocks of these leases."),
    _unheard("bytes", "Memory of these blocks on all workers of the engine together."),
    _gauge(
        "sessions",
        "Open sessions: with consumers, and with producers.",
        "one for each pair of engines that talk",
        "it grows without engines being added: peers that come and go",
        label="role",
        values={
            "consumers": Value("in which others renew leases here"),
            "producers": Value("in which this engine renews elsewhere"),
        },
    ),
    _gauge(
        "fence_slots_used",
        "Slots of the fence in use; lapsed leases keep theirs until somebody needs it.",
        "`active_leases` and `lapsed_leases` together",
        "never by itself: lapsed leases give their slots up. See `declined_offers`",
    ),
    _gauge(
        "agent_up",
        "1 while the lease agent runs.",
        "1",
        "it is 0: a bug in the lease agent, the engine grants nothing any more. Restart it when convenient; "
        "its log has a traceback",
        ranks=Ranks.MIN,
    ),
    _gauge(
        "draining",
        "1 while the engine grants no new leases, since an operator asked for that.",
        "0, but before a P is stopped",
        "it stays 1 on an engine that is to go on: `DELETE /v1/kvlease/drain`",
        ranks=Ranks.MIN,
    ),
)
