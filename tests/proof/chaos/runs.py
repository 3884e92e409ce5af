"""Made-up runs, for the tests of what judges and reports them."""

from dataclasses import replace

from proof.chaos.outcome import Answered, Leftovers, RequestOutcome, RoundOutcome, Run, Verdict
from proof.chaos.schedule import Request, draw_schedule
from proof.realengines.spec import Connector

SCHEDULE = draw_schedule(1, requests=20, faults=2)
FAULT_AT_S = 10.0


def answered(request: Request, *verdicts: Verdict, ended_s: float = FAULT_AT_S + 5) -> RequestOutcome:
    return RequestOutcome(request, [Answered("d1", verdict, ended_s - 1, ended_s) for verdict in verdicts])


def kept_run(connector: Connector = "kvlease") -> Run:
    """A run in which everything went as promised."""
    rounds = [
        RoundOutcome(
            round=which,
            began_s=FAULT_AT_S,
            ended_s=FAULT_AT_S + 3,
            free_s=0.5,
            bound_s=20.0,
            requests=[answered(request, "right") for request in which.requests],
        )
        for which in SCHEDULE.rounds
    ]
    gauges = {"p: kvlease:active_leases": 0.0}
    return Run(connector=connector, schedule=SCHEDULE, rounds=rounds, leftovers=Leftovers(gauges=gauges), took_s=90.0)


def with_round(run: Run, outcome: RoundOutcome) -> Run:
    """The run, with another outcome of its first round."""
    return replace(run, rounds=[outcome, *run.rounds[1:]])


def with_answer(run: Run, client: str, *verdicts: Verdict, ended_s: float = FAULT_AT_S + 5) -> Run:
    """The run, with these answers to the first request of the first round, which was of that kind."""
    first = run.rounds[0]
    request = replace(first.requests[0].request, client=client)  # type: ignore[arg-type]
    return with_round(
        run, replace(first, requests=[answered(request, *verdicts, ended_s=ended_s), *first.requests[1:]])
    )
