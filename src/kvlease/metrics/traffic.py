"""The counters of what engines say to each other."""

from kvlease.metrics.metric import Counted, Kind, Metric, Value

KINDS = {
    "hello": Value("a consumer opens a session"),
    "welcome": Value("its producer's answer"),
    "renew": Value("a consumer renews all that it holds, claims and lets go"),
    "ack": Value("its producer's answer"),
    "gone": Value("a producer does not hold these leases any more"),
    "probe": Value("a producer asks the transport whether its consumer lives"),
    "bye": Value("an engine shuts down, or has no more use for a session"),
}
"""The kinds of messages (docs/protocol/messages.md)."""


def _messages(name: str, meaning: str, good: str = "", worry: str = "") -> Metric:
    return Metric(name, Kind.COUNTER, meaning, good, worry, "kind", KINDS)


COUNTERS = (
    Metric(
        "renewals",
        Kind.COUNTER,
        "Renewals, each for all leases of a session: received as producer, sent as consumer.",
        "one for each session and interval",
        "it stands still on a D whose requests wait: its engine is paused, or in a step for longer than the stall "
        "limit",
        "direction",
        {"received": Value("as producer"), "sent": Value("as consumer")},
    ),
    _messages(
        "messages_sent",
        "Messages of the lease protocol that the agent has sent.",
        "two for each renewal, two for each batch of claims and drops, and probes",
        "`hello` and `welcome` rise without engines being started: sessions that break and open anew",
    ),
    _messages("messages_received", "Messages of the lease protocol that have come, and were well formed."),
    _messages("message_bytes_sent", "Bytes of these messages, without what the transport adds."),
    _messages("message_bytes_received", "Bytes of these messages, without what the transport adds."),
    Metric(
        "transport_failures",
        Kind.COUNTER,
        "What the transport could not do: a peer was dead or unreachable.",
        "0, but for crashes and restarts",
        "it rises: peers that cannot be reached",
        "operation",
        {"send": Value("a message"), "connect": Value("a connection")},
    ),
    Metric(
        "refused",
        Kind.COUNTER,
        "What others sent and must not: messages, references, notices, questions.",
        "0",
        "it rises: somebody who should not talk to these engines does, or engines of different versions",
        "kind",
        {
            "bad_reference": Value("a `kv_lease` that cannot be read, or params that vLLM could not bear"),
            "bad_params": Value(
                "numbers in `kv_transfer_params` that vLLM could not work with", counted=Counted.WORKER
            ),
            "long_prefill": Value("a prefill with `max_tokens` above 1, which is not offered"),
            "bad_on_reject": Value('a `kv_lease_on_reject` that is not "return", of a request that was refused'),
            "block_size": Value(
                "a prefill of an engine whose blocks have another size than this one's", counted=Counted.WORKER
            ),
            "bad_notice": Value("a NIXL notice that is none of vLLM's", counted=Counted.WORKER),
            "handshake": Value("a question to the side channel that is none"),
            "magic": Value("a message that does not begin as one of ours"),
            "encoding": Value("a message in another version of the encoding"),
            "size": Value("a message that is too long"),
            "body": Value("a message whose content is none"),
            "sender": Value("a message of an agent that has no name of ours"),
            "hello_sender": Value("a Hello in another's name"),
            "hello_version": Value("a Hello of another version of the protocol"),
            "too_many_sessions": Value("a Hello of one consumer too many"),
            "tracked_twice": Value("a request that was named twice"),
        },
    ),
    Metric(
        "late",
        Kind.COUNTER,
        "What came too late to matter, and is no mistake of anybody's: copies, and news of what is over.",
        "some: it is nobody's mistake",
        "never by itself",
        "kind",
        {
            "stale": Value("a message that is no newer than what is known: a copy, or overtaken"),
            "no_session": Value("a message of a session that is over"),
            "claim": Value("a claim on a lease that has ended; its consumer is told"),
            "drop": Value("a drop of a lease that is over"),
            "token": Value("news of a lease that nobody wants here any more"),
            "heartbeat": Value("a stock consumer's heartbeat for a lease that is over"),
            "cleared": Value("word of a clearing that was known"),
        },
    ),
)
