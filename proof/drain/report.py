"""The end of a run: one table, a file with every request and every stop, and the lines that it writes on its way."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from kvlease.console.numbers import count, seconds
from kvlease.console.origin import ENGINE, origin
from kvlease.console.tables import Cell, Table, verdict
from proof.drain.judge import PROMISES, DrainPromise, broken
from proof.drain.outcome import DOORS, RequestFate, StopOutcome, StopsRun

_FATES: Sequence[RequestFate] = ("right", "wrong", "lost")


def table(runs: Sequence[StopsRun]) -> Table:
    """Stops after a drain beside stops without one, and what is promised."""
    lines: list[Sequence[str | Cell]] = [[what, *map(of, runs), "", ""] for what, of in _FIGURES]
    lines += [_promised(promise, runs) for promise in PROMISES]
    return Table(("", *map(_heading, runs), "promised", ""), lines, title="P is stopped under traffic")


def _heading(run: StopsRun) -> str:
    return f"{run.connector}, {'drained' if run.drained else 'SIGTERM alone'}"


def _promised(promise: DrainPromise, runs: Sequence[StopsRun]) -> list[str | Cell]:
    kept = [promise.kept(run) for run in runs]
    judged = [each for each in kept if each is not None]
    cells = [Cell(promise.text(run), verdict(each).tone) for run, each in zip(runs, kept, strict=True)]
    return [promise.figure, *cells, promise.limit_text, verdict(all(judged) if judged else None)]


def _spread(values: Sequence[float]) -> str:
    return f"{seconds(median(values))} (at most {seconds(max(values))})" if values else "-"


def _drains(run: StopsRun) -> str:
    return _spread([stop.drain_s for stop in run.stops]) if run.drained else "-"


def _reads(run: StopsRun) -> str:
    return _spread([run.longest_read_s(stop) for stop in run.stops])


def _longer(run: StopsRun) -> str:
    longer_s = list(run.excesses_s())
    if not (run.drained and longer_s):
        return "-"
    return f"{median(longer_s):+.2f} s ({min(longer_s):+.2f} to {max(longer_s):+.2f})"


def _out(run: StopsRun) -> str:
    out = [run.out(stop) for stop in run.stops]
    return f"{median(out):g} ({min(out)} to {max(out)})" if out else "-"


_FIGURES: Sequence[tuple[str, Callable[[StopsRun], str]]] = (
    ("stops", lambda run: count(len(run.stops))),
    ("requests", lambda run: count(len(run.requests))),
    ("  … with P's prefill", lambda run: count(run.from_p)),
    ("leases out when a stop began: median", _out),
    ("its longest read from then on: median", _reads),
    ("its drain: median", _drains),
    ("  … beside that read: median", _longer),
)


def describe_stop(run: StopsRun, number: int, of: int) -> str:
    """Describes the latest stop of a run that goes on."""
    stop = run.stops[-1]
    how = "SIGTERM"
    if stop.door:
        left = f"[bold red]{stop.left} left[/bold red]" if stop.left else "none left"
        how = f"drained through {DOORS[stop.door]} in {stop.drain_s:.2f} s, {left}"
    killed = "" if stop.clean else "; it had to be killed"
    return f"{number:2} of {of}  {how}{killed}"


def describe_stretch(run: StopsRun) -> str:
    """Describes all requests of a run."""
    found = Counter(request.fate for request in run.requests)
    answers = ", ".join(f"{found[fate]} {fate}" for fate in _FATES if found[fate])
    return f"{len(run.requests)} requests: {answers}; {run.from_p} with P's prefill"


def document(runs: Sequence[StopsRun]) -> dict[str, Any]:
    """Every request and every stop, as it goes into drain.json. Times are in seconds since the first request began."""
    return {**origin(ENGINE), "broken": broken(runs), "runs": [_run(run) for run in runs]}


def _run(run: StopsRun) -> dict[str, Any]:
    zero = min((request.began_at for request in run.requests), default=0.0)
    return {
        "connector": run.connector,
        "drained": run.drained,
        "took_s": run.took_s,
        "answers": dict(Counter(request.fate for request in run.requests)),
        "with_ps_prefill": run.from_p,
        "stops": [_stop(run, stop, zero) for stop in run.stops],
        "requests": list(_since(run.requests, zero)),
    }


def _stop(run: StopsRun, stop: StopOutcome, zero: float) -> dict[str, Any]:
    figures = {
        "out": run.out(stop),
        "left": run.left(stop),
        "drain_s": round(stop.drain_s, 3),
        "longest_read_s": round(run.longest_read_s(stop), 3),
    }
    return {**next(_since([stop], zero)), **figures}


def _since(records: Sequence[Any], zero: float) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {
            name: round(value - zero, 3) if name.endswith("_at") and value is not None else value
            for name, value in asdict(record).items()
        }
