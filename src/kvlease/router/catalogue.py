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
    "ok": "answered by an engine, to its end",
    "refused_by_engine": "answered by an engine with 4xx, which was passed on",
    "refused": "refused by the router; `refused_total` says why",
    "failed": "no engine answered it: a 5xx in the form of the OpenAI API",
    "broken": "ended with an error event, after tokens had been sent",
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
REASONS = {
    "queue_full": "`--max-in-flight` run and `--max-queued` wait: 429",
    "queue_time": "it waited for `--max-queue`: 429",
    "draining": "the router is to end: 503",
    "no_engine": "no engine can be asked: 503",
    "too_long": "its body is longer than `--max-body-bytes`: 413",
    "unauthorized": "without one of the router's keys: 401",
    "bad_request": "its body is none that could be handed over: 400",
}
WAYS = {
    "decode": "a decode engine was sent a request that it refuses, and told P",
    "prefill": "P was told over its route `/v1/kvlease/leases/{token}/release`",
    "term": "nobody could be told: the lease ends with its term",
}
CONDITIONS = {
    "up": "it answers, and gets requests",
    "down": "it does not answer looks, or has not yet",
    "open": "its breaker is open: requests failed on it",
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
_TIMES = steps(0.001, 500)

_ALL = (
    RouterMetric(
        "requests",
        Kind.COUNTER,
        "Requests that are over, by what became of them.",
        "`ok`, and `client_gone` as clients will",
        "`failed` or `broken` rises: engines die faster than others can take over; `attempts_total` says how",
        {"endpoint": ENDPOINTS, "outcome": OUTCOMES},
    ),
    RouterMetric(
        "attempts",
        Kind.COUNTER,
        "Questions to engines for a request, by what came of each.",
        "`ok`",
        "anything else rises: the engines' logs, and `engine_failures_total` for which one",
        {"role": ROLES, "result": {"ok": "answered", **FAILURES}},
    ),
    RouterMetric(
        "retries",
        Kind.COUNTER,
        "Questions that were asked again, by the failure before: of another engine where there is one.",
        "0, but for restarts",
        "it rises: engines die or refuse",
        {"role": ROLES, "failure": {name: said for name, said in FAILURES.items() if name != "refused"}},
    ),
    RouterMetric(
        "second_prefills",
        Kind.COUNTER,
        "Prompts that were prefilled a second time, since the first prefill could not be used.",
        "0",
        "it rises: stock engines, or P died with the prefill",
    ),
    RouterMetric(
        "whole_prompts",
        Kind.COUNTER,
        "Prompts that a decode engine computed itself, since no prefill was to be had.",
        "0",
        "it rises: prefill engines are away, or offer nothing",
    ),
    RouterMetric(
        "releases",
        Kind.COUNTER,
        "Prefills that nobody was to read any more, by the way in which P was told.",
        "some: clients that leave",
        "`term` rises: blocks stay on P until the lease's term is over",
        {"way": WAYS},
    ),
    RouterMetric(
        "continued_streams",
        Kind.COUNTER,
        "Streams that went on at another decode engine after tokens had been sent (`--continue-streams`).",
        "0",
        "it rises: decode engines die",
    ),
    RouterMetric(
        "refused",
        Kind.COUNTER,
        "Requests that the router refused, by reason.",
        "0",
        "`queue_full`, `queue_time`: more requests than engines can serve; `no_engine`: see `engines`",
        {"reason": REASONS},
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
        "Questions that this engine has from the router.",
        "alike for all of a role",
        "one has many more: it is slow, or hangs",
        _ENGINE,
    ),
    RouterMetric(
        "engine_failures",
        Kind.COUNTER,
        "Questions to this engine that failed in a way that is no client's mistake.",
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
        "below 0.005 s",
        "it grows: the router's core is busy, or requests wait for their turn",
        buckets=steps(0.0001, 50),
    ),
)

ROUTER_METRICS: dict[str, RouterMetric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name, without prefix and suffix."""
