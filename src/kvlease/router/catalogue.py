"""The metrics of the router's own /metrics: every name, its labels, what it means, and when to worry.

The table in docs/operate/router.md is made from it, by `make docs`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kvlease.metrics.metric import Kind, steps

PREFIX = "kvlease_router:"
"""The beginning of every name on a page: engines' own begin with `kvlease:`, and a dashboard has both."""

ANY: Mapping[str, str] = {}
"""The values of a label that are not known ahead: the engines' URLs, which the operator has named."""

ENDPOINTS = {
    "completions": "`/v1/completions`",
    "chat": "`/v1/chat/completions`",
    "responses": "`/v1/responses`",
    "other": "any other path",
}
OUTCOMES = {
    "finished": "answered by an engine, to its end",
    "passed_on": "answered by an engine with an error, which the client has as it was",
    "refused": "answered by the router with an error; `refused_total` says which",
    "broken_off": "ended with an error event, after tokens had been sent",
    "client_gone": "left by its client",
}
ROLES = {"prefill": "prefill engines", "decode": "decode engines"}
FAILURES = {
    "unreachable": "no connection: the engine has seen nothing of it",
    "cut": "the connection ended before the answer",
    "silent": "a phase's time was over",
    "gateway": "502 or 504",
    "busy": "503",
    "error": "500, or another 5xx",
    "aborted": "200, ended as aborted without a token: an engine that shuts down",
    "refused": "4xx: never sent again",
    "garbled": "200, and no answer of its kind",
}
REFUSALS = {
    "queue_full": "`--max-in-flight` run and `--max-queued` wait: 429",
    "queue_time": "it waited for `--queue-timeout`: 429",
    "draining": "the router is to end: 503",
    "no_engine": "no engine is named for it: 503",
    "no_room": "the bodies that were here had 16 times `--max-body-bytes`: 429",
    "late_body": "its body began, and nothing more of it came for a minute: 408",
    "too_long": "its body is longer than `--max-body-bytes`: 413",
    "unauthorized": "without one of the router's keys: 401",
    "bad_request": "a body that is none: 400",
    "engine_failed": "all that could be tried has failed; `call_failures_total` says how: 5xx",
}
RECOMPUTED = {
    "unfenced": "the prefill has no lease, and an engine may have seen it: stock engines",
    "no_reader": "a decode engine may have seen it, and no other that lives is known to have kvlease",
    "errors": "decode engines answer with errors of their own",
}
WHOLE = {
    "asked": "a request that carries no KV cache, such as one for models or embeddings, or that no prefill fits",
    "no_offer": "the prefill engine offered nothing: a prompt shorter than a block, or it drains",
    "no_prefill": "no prefill engine could do it",
}
RELEASED = {
    "client_gone": "its client left before the first token",
    "ended": "its request ended with an error before a decode engine had read it",
    "given_up": "its prompt is computed again",
}
WAYS = {
    "decode": "a decode engine was sent a request that it refuses, and told P",
    "prefill": "P was told over its route `/v1/kvlease/leases/{token}/release`",
    "term": "nobody could be told: the lease ends with its term",
}
CONDITIONS = {
    "up": "it answers, and gets requests",
    "down": "it does not answer looks, or has not yet",
    "open": "its breaker is open: requests failed on it in a row",
    "draining": "it takes no new work: it drains or shuts down",
    "leaving": "it is not named any more, and finishes what runs on it",
}


class RouterMetric(NamedTuple):
    """One metric of the router's."""

    name: str
    """Its name without prefix and suffix."""
    kind: Kind
    meaning: str
    good: str = ""
    """Its look in good times."""
    worry: str = ""
    """The look that is to worry about, and its likely reason."""
    labels: Mapping[str, Mapping[str, str]] = {}
    """The labels, each with the values that it can have and their meanings; `ANY` for one that names an engine."""
    buckets: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, in seconds, but for the last one, which has none."""

    @property
    def shown(self) -> str:
        """The name on a page, of a histogram the one that its series begin with."""
        return f"{PREFIX}{self.name}{'_total' * (self.kind is Kind.COUNTER)}"


_ENGINE = {"engine": ANY, "role": ROLES}
_RETRIED = {name: said for name, said in FAILURES.items() if name != "refused"}
_TIMES = steps(0.001, 500)

_ALL = (
    RouterMetric(
        "requests",
        Kind.COUNTER,
        "Requests that are over, by what became of them.",
        "`finished`, and the others as clients will",
        "`refused` or `broken_off` rises: `refused_total` and `call_failures_total` say why",
        {"endpoint": ENDPOINTS, "outcome": OUTCOMES},
    ),
    RouterMetric(
        "call_failures",
        Kind.COUNTER,
        "Calls to engines that failed.",
        "0, but for restarts, and `refused` as clients ask for what engines do not do",
        "it rises: the engines' logs; `engine_failures_total` says which",
        {"role": ROLES, "failure": FAILURES},
    ),
    RouterMetric(
        "retries",
        Kind.COUNTER,
        "Requests that were sent again, by the failure before.",
        "0, but for restarts",
        "it rises: engines die or refuse",
        {"role": ROLES, "failure": _RETRIED},
    ),
    RouterMetric(
        "handed_on",
        Kind.COUNTER,
        "Prefills that a second decode engine got, by the failure of the first: nothing was computed twice.",
        "0, but for restarts",
        "it rises: decode engines die or refuse",
        {"failure": _RETRIED},
    ),
    RouterMetric(
        "second_prefills",
        Kind.COUNTER,
        "Prompts that were sent to a prefill engine again, since the first prefill could not be used.",
        "0",
        "it rises: by `why`",
        {"why": RECOMPUTED},
    ),
    RouterMetric(
        "whole_prompts",
        Kind.COUNTER,
        "Requests whose prompt a decode engine computed itself.",
        "some: short prompts",
        "`no_prefill` rises: prefill engines are away",
        {"why": WHOLE},
    ),
    RouterMetric(
        "releases",
        Kind.COUNTER,
        "Prefills that nobody was to read any more, by reason.",
        "some: clients that leave",
        "`ended` or `given_up` rises: see `call_failures_total`",
        {"why": RELEASED},
    ),
    RouterMetric(
        "release_ways",
        Kind.COUNTER,
        "The same, by the way in which P was told.",
        "`decode`",
        "`term` rises: blocks stay on P until the lease's term is over",
        {"way": WAYS},
    ),
    RouterMetric(
        "continued_streams",
        Kind.COUNTER,
        "Streams that went on at another decode engine after tokens had been sent (`--continue-streams`), by the "
        "failure of the one before.",
        "0",
        "it rises: decode engines die",
        {"failure": _RETRIED},
    ),
    RouterMetric(
        "budget_empty",
        Kind.COUNTER,
        "Requests that were not sent again, since all requests together had no retry left (`--retry-ratio`).",
        "0",
        "it rises: most requests fail, and retries would only add to the load",
    ),
    RouterMetric(
        "refused",
        Kind.COUNTER,
        "Requests that the router answered with an error of its own.",
        "0",
        "`queue_full`, `queue_time`: more requests than engines can serve; `no_engine`, `engine_failed`: see `engines`",
        {"why": REFUSALS},
    ),
    RouterMetric(
        "in_flight",
        Kind.GAUGE,
        "Requests that run.",
        "below `--max-in-flight`",
        "it stays there: requests queue in the router",
    ),
    RouterMetric("queued", Kind.GAUGE, "Requests that wait for their turn.", "0", "it stays above 0"),
    RouterMetric(
        "draining", Kind.GAUGE, "1 from SIGTERM on: nothing new is taken.", "0", "1 for longer than `--drain-timeout`"
    ),
    RouterMetric(
        "engines",
        Kind.GAUGE,
        "Engines by condition.",
        "all are `up`",
        "another condition for longer than a restart takes: `GET /v1/kvlease/router` names them and says why",
        {"role": ROLES, "condition": CONDITIONS},
    ),
    RouterMetric(
        "engine_up",
        Kind.GAUGE,
        "1 while the engine is `up`, for each engine that is known.",
        "1",
        "0 for longer than a restart takes",
        _ENGINE,
    ),
    RouterMetric(
        "engine_in_flight",
        Kind.GAUGE,
        "Calls of this router that are under way at this engine.",
        "alike for all of a role",
        "one has many more: it is slow, or hangs",
        _ENGINE,
    ),
    RouterMetric(
        "engine_failures",
        Kind.COUNTER,
        "Calls to this engine that failed, but for `refused`.",
        "0, but for restarts",
        "it rises for one engine alone: see its log",
        _ENGINE,
    ),
    RouterMetric(
        "looks",
        Kind.COUNTER,
        "Looks at engines (health and metrics), by what came of them.",
        "`ok`",
        "`failed` rises: an engine is away, or too slow to answer within `--watch-timeout`",
        {"role": ROLES, "result": {"ok": "it is healthy", "failed": "no answer, or not healthy"}},
    ),
    RouterMetric(
        "engines_refused",
        Kind.COUNTER,
        "Readings of the engines' file or look-ups of a name that gave no list of engines; the last good one holds.",
        "0",
        "it rises: the log says what is wrong with the file or the name",
        {"source": {"file": "`--engines`", "dns": "`--prefill-dns`, `--decode-dns`"}},
    ),
    RouterMetric(
        "time_to_first_token_seconds",
        Kind.HISTOGRAM,
        "From a request's arrival to the first part of its answer with a token; of one that is not streamed, to the "
        "answer.",
        buckets=_TIMES,
        labels={"endpoint": ENDPOINTS},
    ),
    RouterMetric(
        "prefill_seconds",
        Kind.HISTOGRAM,
        "From the question to P until its answer.",
        buckets=_TIMES,
    ),
    RouterMetric(
        "overhead_seconds",
        Kind.HISTOGRAM,
        "The part of the time to the first token in which no engine was asked: reading, choosing, waiting for a turn.",
        "a few milliseconds at most",
        "it grows: the router's core is busy, or requests wait for their turn",
        buckets=steps(0.0001, 50),
    ),
)

ROUTER_METRICS: dict[str, RouterMetric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name, without prefix and suffix."""
