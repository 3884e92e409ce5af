"""The promises about a run, and whether they were kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proof.chaos.outcome import AGENTS_DOWN, RequestOutcome, RoundOutcome, Run

BEARABLE = ("right", "aborted")


@dataclass(frozen=True)
class ChaosPromise:
    """Something that there must be none of. `find` names each case of it."""

    figure: str
    find: Callable[[Run], Sequence[str]]


def wrong_answers(run: Run) -> list[str]:
    """Requests that were answered with HTTP 200, and not with the tokens of an undisturbed engine."""
    alone = [f"{fill.engine} alone" for outcome in run.rounds for fill in outcome.fills if fill.verdict == "wrong"]
    return [_name(request) for request in run.requests() if request.verdict == "wrong"] + alone


def stranded_blocks(run: Run) -> list[str]:
    """Blocks of P that were held after the bound although nobody wanted them, each one a case."""
    return [
        f"block {number} of {outcome.stranded} after fault {_fault(outcome)}"
        for outcome in run.rounds
        for number in range(1, outcome.stranded + 1)
    ]


def deaths(run: Run) -> list[str]:
    """Engines that died although nobody had killed them, and lease agents, whose engines go on without them."""
    engines = [f"{engine} of fault {_fault(outcome)}" for outcome in run.rounds for engine in outcome.died]
    return engines + ["a lease agent"] * run.counts.get(AGENTS_DOWN, 0)


def unanswered_after(run: Run) -> list[str]:
    """Requests sent when the fault was over and nothing was held, and not answered rightly."""
    return [
        f"{_name(request)} of fault {_fault(outcome)}"
        for outcome in run.rounds
        for request in outcome.requests
        if request.request.client == "after" and request.verdict != "right"
    ]


def unexplained_errors(run: Run) -> list[str]:
    """Requests that failed before their round's fault began: nothing was wrong then.

    Clients that come late with a reference, or twice, do not count: they may be refused.
    """
    return [
        _name(request)
        for outcome in run.rounds
        for request in outcome.requests
        if request.request.client not in ("dawdle", "twice", "switch")
        and request.verdict not in BEARABLE
        and request.ended_s < outcome.began_s
    ]


def leftovers(run: Run) -> list[str]:
    """Leases, fence slots, sessions, processes, shared memory and namespaces that are left at the end."""
    return run.leftovers.names()


PROMISES: tuple[ChaosPromise, ...] = (
    ChaosPromise("wrong answers", wrong_answers),
    ChaosPromise("stranded blocks", stranded_blocks),
    ChaosPromise("engines that died of it", deaths),
    ChaosPromise("not answered rightly once the fault was over", unanswered_after),
    ChaosPromise("errors without a fault", unexplained_errors),
    ChaosPromise("left at the end", leftovers),
)


def broken(run: Run) -> dict[str, list[str]]:
    """The promises that were not kept, each with all cases."""
    found = {promise.figure: list(promise.find(run)) for promise in PROMISES}
    return {figure: cases for figure, cases in found.items() if cases}


def _name(request: RequestOutcome) -> str:
    return f"request {request.request.number} ({request.request.client})"


def _fault(outcome: RoundOutcome) -> str:
    return f"{outcome.round.fault.number} ({outcome.round.fault.kind})"
