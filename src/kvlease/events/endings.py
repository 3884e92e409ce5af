"""The endings of hand-offs: a sentence about each, and what to do about it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from kvlease.events.schema import EventKind, EventLine, Role

DECLINED = {
    "no_slot": ("all fence slots were in use", "Raise kv_lease_fence_slots on P, or leave it out."),
    "no_producer": ("P's workers have no fence", "Look in P's log for the reason, a line that begins with kvlease:."),
    "no_agent": ("P's lease agent is dead", "Restart P, and report the traceback in its log."),
    "draining": ("P was being drained", "Nothing, if P was to be shut down; otherwise DELETE its /v1/kvlease/drain."),
}


class Ending(enum.StrEnum):
    """The ways in which a hand-off ends, or has not ended yet."""

    USED = "used"
    LATE_USED = "late_used"
    LOCAL = "local"
    LATE = "late"
    SILENT = "silent"
    DIED = "died"
    NOT_ASKED = "not_asked"
    UNLEASED = "unleased"
    OTHER_PROMPT = "other_prompt"
    BAD_REFERENCE = "bad_reference"
    NO_FENCE = "no_fence"
    UNREADABLE = "unreadable"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    AGED_OUT = "aged_out"
    REVOKED = "revoked"
    RESET = "reset"
    LOST = "lost"
    LEFT = "left"
    HANDED_BACK = "handed_back"
    UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An ending, a sentence about it, and what to do."""

    ending: Ending
    verdict: str
    advice: str


class Known:
    """The knowledge that lines about one lease give, for the choice of its ending. They are in order of time."""

    def __init__(self, lines: Sequence[EventLine]) -> None:
        self.lines = lines
        self.granted = self.last(EventKind.GRANTED)
        self.lapsed = self.last(EventKind.LAPSED)
        self.claimed = self.last(EventKind.CLAIMED)
        self.wanted = self.last(EventKind.WANTED)
        self.refused = self.last(EventKind.REFUSED)
        self.verdicts = {line.verdict for line in lines if line.event is EventKind.FENCE_CHECKED}
        self.ends = {line.end for line in lines if line.event is EventKind.HAND_OFF_ENDED}
        self.seen_on_p = any(line.role is Role.PRODUCER for line in lines)
        # An engine that refused the request and left its lease to another one knows nothing of what became of it.
        self.seen_on_d = any(line.role is Role.CONSUMER and line.end != "returned" for line in lines)

    def last(self, kind: EventKind) -> EventLine | None:
        """Returns the last line of a kind."""
        return next((line for line in reversed(self.lines) if line.event is kind), None)

    def has(self, kind: EventKind) -> bool:
        """Tells whether there is a line of a kind."""
        return self.last(kind) is not None

    @property
    def cause(self) -> str | None:
        """The cause for which the lease was over last; None while it lives, or where nothing is known of that."""
        if self.lapsed is not None:
            return self.lapsed.cause
        ended = self.last(EventKind.ENDED)
        return None if ended is None else ended.cause

    @property
    def was_late(self) -> bool:
        """Tells whether the lease had lapsed before it was used; a claim may have brought it back."""
        return any(line.revived for line in self.lines) or self.cause not in (None, "released")

    @property
    def term(self) -> str:
        """The term, as it is named in a sentence."""
        granted = self.granted
        return "its term" if granted is None or granted.term_s is None else f"its term of {granted.term_s:g} s"


def outcome_of(lines: Sequence[EventLine]) -> Outcome:
    """Returns how the hand-off ended that these lines, in order of time, tell of."""
    known = Known(lines)
    for rule in (_used, _refused, _not_read, _over, _open):
        outcome = rule(known)
        if outcome is not None:
            return outcome
    return Outcome(
        Ending.UNDER_WAY,
        "The files do not tell how it ended.",
        "Give the files of all engines that it may have been sent to.",
    )


def _used(known: Known) -> Outcome | None:
    if "local" in known.ends:
        return Outcome(
            Ending.LOCAL, "The decode engine had all of the prompt in its own cache: nothing was read.", "Nothing."
        )
    if "used" in known.ends or (known.verdicts == {"intact"} and not known.ends):
        if known.was_late:
            return Outcome(
                Ending.LATE_USED,
                "The prefill was read after its lease had lapsed, just before its memory was needed, and used.",
                f"Raise kv_lease_duration on P if this is frequent: {known.term} was too short.",
            )
        return Outcome(Ending.USED, "The prefill was read in time, found intact, and used.", "Nothing.")
    if known.cause == "released" and not known.seen_on_d:
        if known.has(EventKind.UNFENCED_READ):
            return None
        return Outcome(
            Ending.USED,
            "The decode engine has let go of the lease; its own files are not among those given.",
            "Give the decode engine's files, too, to see whether it has used what it read.",
        )
    return None


def _refused(known: Known) -> Outcome | None:
    if known.refused is not None:
        reason, detail = known.refused.reason or "", known.refused.detail or ""
        if reason in ("length", "content", "media"):
            return Outcome(
                Ending.OTHER_PROMPT,
                f"The decode engine's prompt is another one than was computed: they differ in {reason} ({detail}).",
                "Have the router send the same prompt, media and cache salt to both engines, and give both the same "
                "model, tokenizer and chat template.",
            )
        return Outcome(
            Ending.BAD_REFERENCE,
            f"The reference to the prefill could not be used: {detail}.",
            "Have the router pass kv_transfer_params on untouched, and run the same version of kvlease on both.",
        )
    if known.has(EventKind.UNFENCED_READ) or known.has(EventKind.UNLEASED):
        return Outcome(
            Ending.UNLEASED,
            "The prefill was handed over without its lease: the router dropped kv_lease, or one side does not run "
            "kvlease.",
            "Have the router pass kv_transfer_params on untouched, and run kvlease on both sides.",
        )
    declined = known.last(EventKind.DECLINED)
    if declined is not None and known.granted is None:
        why, advice = DECLINED.get(declined.reason or "", (str(declined.reason), "See docs/operate/troubleshoot.md."))
        return Outcome(Ending.DECLINED, f"The prefill was not offered: {why}.", advice)
    if known.has(EventKind.READ_DENIED):
        return Outcome(
            Ending.NO_FENCE,
            "The decode engine found no fence for the prefill: P was restarted since, or its side channel cannot be "
            "reached.",
            "Nothing after a restart; otherwise see VLLM_NIXL_SIDE_CHANNEL_HOST on P, and the network.",
        )
    return None


def _not_read(known: Known) -> Outcome | None:
    if known.cause == "orphaned":
        return None
    if not ("revoked" in known.verdicts or known.has(EventKind.LOST) or known.has(EventKind.CLAIM_TOO_LATE)):
        if "failed" in known.verdicts or "failed" in known.ends:
            return Outcome(
                Ending.UNREADABLE,
                "The read failed: P died, or was cut off, while it was read from.",
                "Look after P and the network; the decode engine has computed the prompt, or answered with an error, "
                "as its kv_load_failure_policy says.",
            )
        return None
    operator = _by_operator(known)
    if operator is not None:
        return operator
    if known.cause == "aged_out":
        return _aged_out()
    if known.has(EventKind.CONSUMER_SILENT) or (known.cause == "expired" and _claimed_before_its_end(known)):
        return _silent()
    if known.cause == "expired":
        return Outcome(
            Ending.LATE,
            f"It was read too late: nobody had claimed the lease within {known.term}, and P needed the memory.",
            "Raise kv_lease_duration on P above the longest way through the router and its queues, or find what "
            "held the request up.",
        )
    return Outcome(
        Ending.LOST,
        "The lease was gone before the prefill could be used, so it was not used.",
        "Give P's files, too, to see why; a longer kv_lease_duration on P helps where it had expired.",
    )


def _over(known: Known) -> Outcome | None:
    operator = _by_operator(known)
    if operator is not None:
        return operator
    if known.cause == "orphaned":
        return Outcome(
            Ending.DIED,
            "The decode engine died, and no other took over: P has its memory back.",
            "Look after the decode engine. With kv_lease_orphan_grace on P, a router can send the request to another "
            "one, which reads the same prefill.",
        )
    if known.cause == "aged_out":
        return _aged_out()
    if known.cause == "aborted":
        return Outcome(
            Ending.WITHDRAWN,
            "P withdrew it: the request was aborted, or nobody was to be told of this one of its siblings.",
            "Nothing.",
        )
    if known.cause == "expired":
        if _claimed_before_its_end(known):
            return _silent()
        if known.seen_on_d:
            return Outcome(
                Ending.LATE,
                f"Nobody had claimed the lease within {known.term}: the decode engine's claim did not come in time.",
                "Raise kv_lease_duration on P, and see whether P's side channel and agent can be reached from D.",
            )
        if "returned" in known.ends:
            return Outcome(
                Ending.HANDED_BACK,
                "A decode engine refused the request and left its lease to another one; none claimed it within "
                f"{known.term}.",
                "See whether the router sent the request to another decode engine. If that one's files are missing "
                "here, give them, too.",
            )
        return Outcome(
            Ending.NOT_ASKED,
            f"No decode engine asked for it within {known.term}: there are no events of it on any.",
            "See whether the router sent the request on, with kv_lease in its kv_transfer_params; its client may have "
            "left. If a decode engine's files are missing here, give them, too.",
        )
    if "over" in known.ends or known.cause == "released":
        return Outcome(
            Ending.LEFT,
            "The request was over before its prefill was used: its client left, or the request was handed back.",
            "Nothing, if clients may leave; otherwise look for aborts in the router.",
        )
    return None


def _open(known: Known) -> Outcome | None:
    if known.has(EventKind.CONSUMER_DEAD):
        return Outcome(
            Ending.DIED,
            "The decode engine died; P holds the lease for another one until the grace is over.",
            "Look after the decode engine; the router may send the request to another one meanwhile.",
        )
    if known.claimed is not None or known.wanted is not None:
        if not known.seen_on_p:
            return Outcome(
                Ending.UNDER_WAY,
                "A decode engine asked for it, and the files say no more.",
                "Give P's files, too. If these are old, the decode engine was killed.",
            )
        return Outcome(
            Ending.UNDER_WAY, "A decode engine holds the lease, and has not read it yet.", "Wait; it is renewed."
        )
    if known.granted is not None:
        return Outcome(
            Ending.UNDER_WAY,
            f"The prefill waits for a decode engine; P holds it for {known.term}.",
            "Wait, or see whether the router has sent the request on.",
        )
    return None


def _by_operator(known: Known) -> Outcome | None:
    if known.cause == "revoked":
        return Outcome(Ending.REVOKED, "An operator released the lease by hand.", "Nothing: it was meant.")
    if known.cause == "reset":
        return Outcome(
            Ending.RESET,
            "P's cache was reset while the lease was out.",
            "Reset when nothing waits, if that can be chosen.",
        )
    return None


def _aged_out() -> Outcome:
    return Outcome(
        Ending.AGED_OUT,
        "The lease reached its maximum age: the request waited in the decode engine's queue for too long.",
        "Add decode engines, have the router bound what it sends, or raise kv_lease_max_age on P.",
    )


def _silent() -> Outcome:
    return Outcome(
        Ending.SILENT,
        "The decode engine stopped renewing: it stood still or was cut off for longer than an extension.",
        "Look for what held it up; a longer kv_lease_extension or kv_lease_duration on P bridges such pauses.",
    )


def _claimed_before_its_end(known: Known) -> bool:
    return known.lapsed is not None and known.lapsed.claimed_s is not None
