"""A run in words: what it played, what came of it, and how to play it again."""

from collections.abc import Collection, Iterator

from kvlease.console.origin import commit
from proof import program
from proof.simulate.plan import Plan, UserRequest
from proof.simulate.run import RunOutcome
from proof.simulate.shrink import Shrunk

NOTHING = "none"
"""An empty choice of faults or requests, as it is written on a command line."""


def replay_command(
    seed: int,
    faults: Collection[int] | None = None,
    requests: Collection[int] | None = None,
    planted: str | None = None,
) -> str:
    """The command that plays this run again; None stands for all faults, or all requests."""
    words = [program(), "simulate replay", str(seed)]
    if faults is not None:
        words += ["--faults", _numbers(faults)]
    if requests is not None:
        words += ["--requests", _numbers(requests)]
    if planted is not None:
        words += ["--planted", planted]
    return " ".join(words)


def _numbers(numbers: Collection[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers)) or NOTHING


def describe_plan(plan: Plan) -> Iterator[str]:
    """Describes a plan line by line: the engines, and the faults and requests with their numbers in the whole plan."""
    yield (
        f"producers {', '.join(plan.producers)} of {plan.producer_workers} workers and {plan.blocks} blocks, "
        f"consumers {', '.join(plan.consumers)} of {plan.consumer_workers} workers and {plan.seats} seats; "
        f"a step takes {plan.step_s:g} s, a turn {plan.turn_s:g} s"
    )
    yield "settings: " + (", ".join(f"{key} {value:g}" for key, value in plan.config) or "the defaults")
    if plan.router is not None:
        stock = ", ".join(sorted(plan.router.stock)) or "none"
        yield f"kvlease's router: {plan.router.policy}; stock engines: {stock}"
    yield f"faults, over by {plan.faults_s:.3f} s:"
    numbers = plan.kept_faults if plan.kept_faults is not None else range(len(plan.faults))
    yield from (f"  {number}: {fault}" for number, fault in zip(numbers, plan.faults, strict=True))
    yield "requests:"
    numbers = plan.kept_requests if plan.kept_requests is not None else range(len(plan.requests))
    yield from (
        f"  {number}: {describe_request(request)}" for number, request in zip(numbers, plan.requests, strict=True)
    )


_ROUTED = "through kvlease's router"


def describe_request(request: UserRequest) -> str:
    by = f"by {request.producer}, then {' or '.join(request.consumers)}"
    said = [f"at {request.at_s:.3f} s {_ROUTED if request.routed else by}"]
    said += [f"{request.blocks} blocks"]
    said += [f"the first {request.shared} of kind {request.alike}"] if request.alike else []
    said += [f"n = {request.siblings}"] if request.siblings > 1 else []
    said += [f"passed on after {request.think_s:.3f} s"] if request.think_s and not request.routed else []
    said += [f"asked again after {request.patience_s:.3f} s"] if request.patience_s and not request.routed else []
    said += ["as a stream"] if request.routed and request.streams else []
    said += [f"aborted after {request.abort_s:.3f} s"] if request.abort_s is not None else []
    said += [f"decodes for {request.busy_s:.3f} s"] if request.busy_s else []
    said += ["the router dies with the reference"] if request.lost else []
    said += ["the reference arrives mangled"] if request.mangled else []
    return ", ".join(said)


def describe_verdict(outcome: RunOutcome) -> str:
    """Describes an outcome in one line."""
    kept = "every promise was kept"
    said = f"{outcome.violation.rule} is broken: {outcome.violation.text}" if outcome.violation else kept
    return (
        f"{said} ({outcome.events} events in {outcome.simulated_s:.1f} simulated seconds, digest {outcome.digest[:16]})"
    )


def describe_tested(seed: int, planted: str | None) -> str:
    """Names the seed that was played, the commit, and the planted bug, if any."""
    return f"seed {seed}, commit {commit()}" + (f", with {planted} planted" if planted else "")


def describe_failure(whole: Plan, shrunk: Shrunk, planted: str | None = None) -> Iterator[str]:
    """All that somebody needs to understand a failure: the seed, the commit, what is left of the plan, the last events
    and the command that plays it again."""
    assert shrunk.outcome.violation is not None
    yield describe_verdict(shrunk.outcome)
    yield describe_tested(whole.seed, planted)
    yield (
        f"cut down from {len(whole.faults)} faults and {len(whole.requests)} requests to {len(shrunk.faults)} and "
        f"{len(shrunk.requests)} in {shrunk.runs} runs" + ("" if shrunk.minimal else ", which were all it was given")
    )
    yield from describe_plan(shrunk.plan)
    yield "the last events:"
    yield from (f"  {event}" for event in shrunk.outcome.last)
    yield "to see it again:"
    yield f"  {replay_command(whole.seed, shrunk.faults, shrunk.requests, planted)}"
    yield f"  {replay_command(whole.seed, planted=planted)}"
