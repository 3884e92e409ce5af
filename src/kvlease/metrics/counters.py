"""The counters of leases: what has happened to them since the engine's start."""

from kvlease.metrics.metric import Counted, Kind, Metric, Value

COUNTERS = (
    Metric("grants", Kind.COUNTER, "Leases granted.", "one for each prefill that is handed over"),
    Metric(
        "claims",
        Kind.COUNTER,
        "Claims received: a consumer's session began to hold a lease.",
        "about as many as `grants`",
        "fewer, for long: requests are lost between prefill and decode, or D does not run kvlease",
    ),
    Metric(
        "lease_ends",
        Kind.COUNTER,
        "Leases that were over, by cause: their blocks became free, and stayed readable until they were reused.",
        label="cause",
        values={
            "released": Value("", "nearly all ends"),
            "expired": Value(
                "",
                "0",
                "it rises: requests lost between prefill and decode, or paused decode engines. Beside "
                '`late_claims{outcome="in_time"}` it says how many came after all',
            ),
            "orphaned": Value("", "0", "it rises: decode engines die"),
            "aged_out": Value("", "0", "it rises: queues longer than `kv_lease_max_age`"),
            "aborted": Value("", "some: aborted prefills, siblings, lists of prompts"),
            "reset": Value("", "0, but for resets of P's cache, as for new weights", "it rises without any"),
            "revoked": Value(
                "an operator released it (`POST /v1/kvlease/leases/{token}/release`)", "0", "nobody did so"
            ),
        },
        like="vllm:nixl_num_kv_expired_reqs, for what ends unread",
    ),
    Metric(
        "late_claims",
        Kind.COUNTER,
        "Claims of leases that were over, by what came of it; in time is a prefill saved.",
        label="outcome",
        values={
            "in_time": Value(
                "its blocks were still there; they are held again",
                "0",
                "it rises: terms too short, or decode engines that stall; each was a prefill saved, since P had memory "
                "to spare",
            ),
            "too_late": Value(
                'one of its blocks was reused while it was on its way; later ones are `late{kind="claim"}`',
                "0",
                "it rises: the same, and P needs its memory. It counts claims that a reuse has just overtaken; all "
                "that came too late are `lost_leases` on D",
            ),
        },
    ),
    Metric(
        "crash_reclaims",
        Kind.COUNTER,
        "Leases that were over since their consumer's process was dead.",
        "0",
        "it rises: decode engines die",
    ),
    Metric(
        "reclaimed_blocks", Kind.COUNTER, "KV cache blocks of leases that were over for whatever cause but released."
    ),
    Metric(
        "saved_prefill_tokens",
        Kind.COUNTER,
        "Tokens of prompts whose lease was claimed in time after it was over: on P, prefills that need not be done "
        "again.",
        "0",
        "as `late_claims`",
    ),
    Metric(
        "wasted_prefill_tokens",
        Kind.COUNTER,
        "Tokens of prompts whose prefill elsewhere was not used: on D, computed a second time, or failed, as "
        "`kv_load_failure_policy` says; one request counts once.",
        "0",
        "it rises: as the row of `fence_checks` or `lost_leases` with this reason",
        label="reason",
        values={
            "lost": Value("its producer said, before it was read, that it does not hold the lease any more"),
            "revoked": Value("it was read late: the fence refused what was read"),
            "failed": Value("the fence could not be read, or the transfer failed or was refused, as when P died"),
            "no_fence": Value("its producer incarnation is not there any more, or cannot be asked"),
        },
    ),
    Metric(
        "lost_leases",
        Kind.COUNTER,
        "Leases that a producer said it does not hold any more, before they were read.",
        "0",
        'it rises: as for `fence_checks{verdict="revoked"}`, noticed before the read',
    ),
    Metric(
        "returned_leases",
        Kind.COUNTER,
        "Requests that this engine refused before it admitted them, and whose lease it left to another one, since the "
        "router had asked for it (`kv_lease_on_reject`).",
        "0",
        "it rises: this engine refuses what the router sends it, as when its queue is full",
    ),
    Metric(
        "fence_checks",
        Kind.COUNTER,
        "Reads checked against the fence; intact ones alone are used. Revoked: a late read.",
        label="verdict",
        values={
            "intact": Value("the blocks were the lease's own to the end", "nearly all"),
            "revoked": Value("a late read, refused", "0", "it rises: terms too short, or decode engines that stall"),
            "failed": Value(
                "the word could not be read",
                "0, but for crashes of P",
                "it rises: the network between P and D, or a P that stands still",
            ),
            "no_fence": Value(
                "the reference's incarnation does not live at its engine any more, or cannot be asked",
                "0, but for restarts of P",
                "it rises: stale references, or a side channel that cannot be reached",
            ),
        },
        counted=Counted.WORKER,
    ),
    Metric(
        "unfenced_reads",
        Kind.COUNTER,
        "Leases read without their fence: by a stock decode engine, or since a router dropped kv_lease on the way.",
        "0",
        "it rises: a router drops `kv_lease`, or decode engines do not run kvlease. These reads have stock's "
        "guarantees. In a fleet that is being switched over: how much is still to do",
    ),
    Metric(
        "other_prompts",
        Kind.COUNTER,
        "Hand-offs that reached another prompt than they were made for, by what differs; not read (R35).",
        "0",
        "it rises: a router that mixes requests up, or prompts that P and D do not render alike; `media`: D gets "
        "stand-ins for images, or the two have other settings for them",
        label="reason",
        values={
            "length": Value("the prompt is longer or shorter than what was computed"),
            "content": Value("other tokens, adapter or salt"),
            "media": Value("other images, audio or embeddings; see `kv_lease_compare_media`"),
        },
    ),
    Metric(
        "declined_offers",
        Kind.COUNTER,
        "Prefills not offered for want of a lease; their consumers compute them.",
        "0, but while draining",
        "it rises: prefills that are computed twice, for want of a lease",
        label="reason",
        values={
            "no_slot": Value("all slots of the fence are in use"),
            "no_agent": Value("the lease agent is not running"),
            "no_producer": Value("this engine's workers have no fence"),
            "draining": Value("an operator drains this engine"),
        },
    ),
)
