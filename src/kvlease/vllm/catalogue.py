"""The metrics of kvlease on /metrics: every name, its label, and its meaning (R17, R38).

The tables in docs/operate/observe.md are made from it, by `make docs`.
"""

COUNTERS: dict[str, tuple[str, str]] = {
    "grants": ("", "Leases granted."),
    "claims": ("", "Claims received: a consumer's session began to hold a lease."),
    "lease_ends": (
        "cause",
        "Leases that were over, by cause: their blocks became free, and stayed readable until they were reused.",
    ),
    "late_claims": ("outcome", "Claims of leases that were over, by what came of it; in time is a prefill saved."),
    "crash_reclaims": ("", "Leases that were over since their consumer's process was dead."),
    "reclaimed_blocks": ("", "KV cache blocks of leases that were over for whatever cause but released."),
    "renewals": ("direction", "Renewals, each for all leases of a session: received as producer, sent as consumer."),
    "fence_checks": ("verdict", "Reads checked against the fence; intact ones alone are used. Revoked: a late read."),
    "unfenced_reads": (
        "",
        "Leases read without their fence: by a stock decode engine, or since a router dropped kv_lease on the way.",
    ),
    "lost_leases": ("", "Leases that a producer said it does not hold any more, before they were read."),
    "other_prompts": (
        "reason",
        "Hand-offs that reached another prompt than they were made for, by what differs; not read (R35).",
    ),
    "declined_offers": ("reason", "Prefills not offered for want of a lease; their consumers compute them."),
    "transport_failures": ("operation", "What the transport could not do: a peer was dead or unreachable."),
    "refused": ("kind", "What others sent and must not: messages, references, notices, questions."),
    "late": ("kind", "What came too late to matter, and is no mistake of anybody's: copies, and news of what is over."),
}
"""The counters by name: (label, meaning). Each has one label, or "" for none."""

GAUGES: dict[str, tuple[str, str]] = {
    "active_leases": ("", "Leases granted and not over; 0 on a producer is the signal that it is drained."),
    "held_blocks": ("", "KV cache blocks held for consumers, out of the engine's pool."),
    "lapsed_leases": ("", "Leases that are over and can still be read: their blocks are free, and not yet reused."),
    "lapsed_blocks": ("", "KV cache blocks of lapsed leases; they are free, and cost nothing."),
    "sessions": ("role", "Open sessions: with consumers, and with producers."),
    "fence_slots_used": ("", "Slots of the fence in use; lapsed leases keep theirs until somebody needs it."),
    "agent_up": ("", "1 while the lease agent runs."),
}

VALUES: dict[str, dict[str, str]] = {
    "renewals": {"received": "as producer", "sent": "as consumer"},
    "fence_checks": {
        "intact": "the blocks were the lease's own to the end",
        "revoked": "a late read, refused",
        "failed": "the word could not be read",
        "no_fence": "the reference's incarnation does not live at its engine any more, or cannot be asked",
    },
    "other_prompts": {
        "length": "the prompt is longer or shorter than what was computed",
        "content": "other tokens, adapter or salt",
        "media": "other images, audio or embeddings; see `kv_lease_compare_media`",
    },
    "late_claims": {
        "in_time": "its blocks were still there; they are held again",
        "too_late": 'one of its blocks was reused while it was on its way; later ones are `late{kind="claim"}`',
    },
    "declined_offers": {
        "no_slot": "all slots of the fence are in use",
        "no_agent": "the lease agent is not running",
        "no_producer": "this engine's workers have no fence",
    },
    "transport_failures": {"send": "a message", "connect": "a connection"},
    "sessions": {
        "consumers": "in which others renew leases here",
        "producers": "in which this engine renews elsewhere",
    },
    "refused": {
        "bad_reference": "a `kv_lease` that cannot be read, or params that vLLM could not bear",
        "bad_params": "numbers in `kv_transfer_params` that vLLM could not work with",
        "long_prefill": "a prefill with `max_tokens` above 1, which is not offered",
        "block_size": "a prefill of an engine whose blocks have another size than this one's",
        "bad_notice": "a NIXL notice that is none of vLLM's",
        "handshake": "a question to the side channel that is none",
        "magic": "a message that does not begin as one of ours",
        "encoding": "a message in another version of the encoding",
        "size": "a message that is too long",
        "body": "a message whose content is none",
        "sender": "a message of an agent that has no name of ours",
        "hello_sender": "a Hello in another's name",
        "hello_version": "a Hello of another version of the protocol",
        "too_many_sessions": "a Hello of one consumer too many",
        "tracked_twice": "a request that was named twice",
    },
    "late": {
        "stale": "a message that is no newer than what is known: a copy, or overtaken",
        "no_session": "a message of a session that is over",
        "claim": "a claim on a lease that has ended; its consumer is told",
        "drop": "a drop of a lease that is over",
        "token": "news of a lease that nobody wants here any more",
        "heartbeat": "a stock consumer's heartbeat for a lease that is over",
        "cleared": "word of a clearing that was known",
    },
}
"""The values of each label, with their meanings; those of `lease_ends` are in `kvlease.protocol.Cause`."""
