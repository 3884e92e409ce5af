"""The decisions of `kvlease router`: its failures, its states and its breaker, as tables (`kvlease.router`)."""

from collections.abc import Iterator

from docs.made.markdown import code, table
from docs.made.meanings import documented
from kvlease.routing.breaker import BREAKER
from kvlease.routing.failures import FAILURES, EngineFailure, FailureRule
from kvlease.routing.states import REQUEST, RequestReport, RequestState


def failures() -> Iterator[str]:
    """The failures of a call to an engine, and what follows from each: the table `FAILURES`."""
    said = documented(EngineFailure)
    yield from table(
        ("failure", "what the router saw", "sent again", "reference", "breaker", "client, in the end"),
        (
            (code(failure), said[failure.name], _again(rule), _reference(rule), _breaker(rule), _client(failure, rule))
            for failure, rule in FAILURES.items()
        ),
    )


def requests() -> Iterator[str]:
    """The life of a request: the table `REQUEST`, as a diagram and with all that it can meet."""
    arrows: dict[tuple[RequestState, RequestState], list[str]] = {}
    for (state, report), moves in REQUEST.items():
        if report is not RequestReport.CLIENT_GONE:
            for move, after in moves.items():
                arrows.setdefault((state, after), []).append(f"{move} ({report})")
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {RequestState.NEW}"
    for (state, after), labels in arrows.items():
        yield f"    {state} --> {after}: {', '.join(labels)}"
    yield f"    {RequestState.ENDED} --> [*]"
    yield "```"
    yield ""
    said = documented(RequestState)
    yield from table(("state", "what it means"), ((code(state), said[state.name]) for state in RequestState))


def breaker() -> Iterator[str]:
    """The life of an engine's breaker: the table `BREAKER`."""
    rows = ((code(state), code(event), code(after)) for (state, event), after in BREAKER.items())
    yield from table(("state", "event", "next state"), rows)


def _again(rule: FailureRule) -> str:
    if not rule.retried:
        return "no"
    same = ", or to the same" if rule.same_engine else ""
    return f"to another engine{same}"


def _reference(rule: FailureRule) -> str:
    return "may have been seen" if rule.seen else "unseen"


def _breaker(rule: FailureRule) -> str:
    if rule.opens:
        return "opens"
    return "counts, never opens alone" if rule.breaker else "is an answer"


def _client(failure: EngineFailure, rule: FailureRule) -> str:
    if failure in (EngineFailure.REFUSED, EngineFailure.ERROR):
        return "the engine's own answer"
    return f"{rule.status} {code(rule.kind)}"
