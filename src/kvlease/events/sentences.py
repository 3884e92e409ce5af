"""Events in words: a few for each kind."""

from collections.abc import Callable, Mapping

from kvlease.events.schema import EventKind, EventLine

_CAUSES = {
    "released": "its consumer let go of it",
    "expired": "its term, or its consumer's extension, was over",
    "orphaned": "its consumer is dead",
    "aborted": "nobody is told of it",
    "aged_out": "it reached its maximum age",
    "reset": "P's cache was reset",
    "revoked": "an operator released it",
}
_ENDS = {
    "used": "the prefill is used",
    "failed": "the prefill is not used: the load-failure policy decides",
    "local": "nothing to read: all of it was in the own cache",
    "over": "the request is over, unread",
    "returned": "the request is refused, and its lease left to another engine",
}
_VERDICTS = {
    "intact": "fence intact: what was read is the lease's own",
    "revoked": "fence revoked: the lease had ended, what was read is not used",
    "failed": "the fence could not be read: what was read is not used",
}
_SESSIONS = {
    "want": "looks for the producer",
    "card": "has found the producer",
    "no_card": "does not find the producer: nobody answers at its side channel",
    "welcome": "its session with the producer is open",
    "reopen": "the producer asks for a new session",
    "silence": "the producer does not answer",
    "lost": "the producer cannot be reached",
    "leave": "leaves the producer, of which nothing is wanted",
    "bye": "the producer shuts down",
}


def sentence(line: EventLine, engines: Mapping[str, str]) -> str:
    """Returns what a line says, in a few words. `engines`: their names by incarnation, where they are known."""
    words = _WORDS[line.event](line)
    for incarnation in (line.consumer, line.producer):
        if incarnation is not None:
            # The peer's own word is good enough for a name where its files are missing.
            known = engines.get(incarnation) or (line.peer if incarnation == line.consumer else None)
            words = words.replace(incarnation, known or incarnation[:8])
    return words


def seconds(value: float) -> str:
    """Returns a time as people write it."""
    size = abs(value)
    if size < 0.0005:
        return f"{value * 1e6:.0f} us" if size else "0 s"
    if size < 1:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if size < 100 else f"{value:.0f} s"


def _granted(line: EventLine) -> str:
    parts = [
        f"{line.tokens} tokens" if line.tokens is not None else "",
        f"{line.blocks} blocks" if line.blocks is not None else "",
        f"for {line.term_s:g} s" if line.term_s is not None else "",
    ]
    return f"lease granted: {', '.join(part for part in parts if part) or 'nothing is said of it'}"


def _claimed(line: EventLine) -> str:
    again = "again " if line.first is False and not line.revived else ""
    revived = "; it had lapsed, and lives again" if line.revived else ""
    return f"claimed {again}by {line.consumer}{_after(line.age_s, 'after the grant')}{revived}"


def _lapsed(line: EventLine) -> str:
    why = _CAUSES.get(line.cause or "", str(line.cause))
    return f"lease over ({line.cause}): {why}{_after(line.age_s, 'after the grant')}"


def _after(value: float | None, what: str) -> str:
    return "" if value is None else f", {seconds(value)} {what}"


def _void(line: EventLine) -> str:
    return "" if not line.claims else f", with {line.claims} claim{'s' if line.claims > 1 else ''}"


def _in_worker(line: EventLine, what: str) -> str:
    return what if not line.worker else f"{what} (worker {line.worker})"


_WORDS: dict[EventKind, Callable[[EventLine], str]] = {
    EventKind.STARTED: lambda _: "the engine starts",
    EventKind.STOPPED: lambda _: "the engine shuts down",
    EventKind.DROPPED: lambda line: f"{line.count} events were not written",
    EventKind.GRANTED: _granted,
    EventKind.DECLINED: lambda line: f"prefill not offered ({line.reason})",
    EventKind.CLAIMED: _claimed,
    EventKind.CLAIM_TOO_LATE: lambda _: "the claim came too late: its blocks have just been given to others",
    EventKind.UNFENCED_READ: lambda _: "read by a consumer without leases",
    EventKind.LAPSED: _lapsed,
    EventKind.ENDED: lambda _: "its blocks go to others: it can be read no more",
    EventKind.CONSUMER_OPENED: lambda line: f"{line.consumer} says hello",
    EventKind.CONSUMER_DEAD: lambda line: f"{line.consumer} is dead{_void(line)}",
    EventKind.CONSUMER_SILENT: lambda line: f"{line.consumer} has fallen silent{_void(line)}",
    EventKind.CONSUMER_CLOSED: lambda line: f"the session of {line.consumer} is over",
    EventKind.WANTED: lambda line: f"a request wants the lease of {line.producer}",
    EventKind.HELD: lambda _: "the producer holds the lease for this engine",
    EventKind.READ_BEGUN: lambda line: _in_worker(line, "reads the blocks"),
    EventKind.READ_DENIED: lambda line: _in_worker(line, "does not read: it knows no fence for the blocks"),
    EventKind.DATA_ARRIVED: lambda line: _in_worker(line, "all data is here"),
    EventKind.FENCE_CHECKED: lambda line: _in_worker(line, _VERDICTS.get(line.verdict or "", f"fence {line.verdict}")),
    EventKind.LOST: lambda _: "the lease is lost: its blocks are not read",
    EventKind.LET_GO: lambda _: "lets go of the lease",
    EventKind.HAND_OFF_ENDED: lambda line: _ENDS.get(line.end or "", f"hand-off ended ({line.end})"),
    EventKind.REFUSED: lambda line: f"reference refused ({line.reason}): {line.detail}",
    EventKind.UNLEASED: lambda _: "the request comes without kv_lease",
    EventKind.PRODUCER_CHANGED: lambda line: _SESSIONS.get(line.state or "", f"producer: {line.state}"),
}
