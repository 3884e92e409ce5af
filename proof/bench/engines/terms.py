"""The rows, goals, plots and notes that are made of how long leases of several terms lived."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proof.bench.engines.pauses import Activity, Second, sum_up
from proof.bench.engines.queue import Life, Queue
from proof.bench.frame.figures import Curves, FigureRow, Goal, Spread
from proof.realengines.spec import Connector

GOAL_S = 1.0
WHATS = ("agent", "steps", "sent", "heard")
"""The things that engines write down (`probe.py`): the agent's turns, steps, stock heartbeats sent and heard."""
_EXTENSION = 2 / 3
"""The share of a term by which a renewal extends a lease, for both."""
_INTERVAL = 1 / 6
"""The share of a term that kvlease lets pass between renewals."""


@dataclass(frozen=True)
class Trial:
    """The trial of one term. `seconds` are what P and D wrote down meanwhile, by engine and thing (`WHATS`)."""

    connector: Connector
    term_s: float
    life: Life
    seconds: Mapping[tuple[str, str], Sequence[Second]]

    @property
    def lives(self) -> bool:
        """Tells whether no lease expired that was wanted."""
        return self.life.first_expiry_s is None

    def activity(self, engine: str, what: str) -> Activity | None:
        """The activity of one thing in one engine; None where it was not called."""
        return sum_up(self.seconds[engine, what])


Trials = Mapping[Connector, Sequence[Trial]]
_Figure = Callable[[Trial], float | None]


def living(trials: Trials, connector: Connector) -> Trial | None:
    """The trial of the shortest term that lived, or None. Terms were tried in ascending order until one did."""
    last = trials[connector][-1]
    return last if last.lives else None


def rows(trials: Trials) -> list[FigureRow]:
    """The rows of the shortest terms that live."""
    ours, stock = living(trials, "kvlease"), living(trials, "stock")

    def row(what: str, unit: str, of_ours: _Figure | None, of_stock: _Figure | None) -> FigureRow:
        return _row(what, unit, _figure(ours, of_ours), _figure(stock, of_stock))

    return [
        row("shortest term that lives", "s", _term, _term),
        row("wait in D's queue", "terms", _terms_waited, _terms_waited),
        row("leases meanwhile", "leases", _leases, _leases),
        row("renewals: messages", "1/s", _renewals_per_s, lambda t: _rate(t, "D", "sent", "messages_per_s")),
        row("renewals: leases named", "1/s", None, lambda t: _rate(t, "D", "sent", "leases_per_s")),
        # These are no pairs: the agent's thread does all that the protocol needs, and polls while nothing happens.
        row("processor time of D's lease agent", "% of a core", _agent_of("D"), None),
        row("processor time of P's lease agent", "% of a core", _agent_of("P"), None),
        row("time for sending heartbeats, in D's steps", "% of a core", None, _cost_of("D", "sent")),
        row("time for hearing heartbeats, in P's steps", "% of a core", None, _cost_of("P", "heard")),
        row("longest pause of D's agent", "ms", _pause_of("D", "agent"), None),
        row("longest pause of P's agent", "ms", _pause_of("P", "agent"), None),
        row("longest step of D", "ms", _pause_of("D", "steps"), _pause_of("D", "steps")),
        row("longest step of P", "ms", _pause_of("P", "steps"), _pause_of("P", "steps")),
    ]


def _figure(trial: Trial | None, of: _Figure | None) -> float | None:
    return None if trial is None or of is None else of(trial)


def _row(what: str, unit: str, ours: float | None, stock: float | None) -> FigureRow:
    ratio = Spread.of([ours / stock]) if ours is not None and stock else None
    return FigureRow(what, unit, _single(ours), _single(stock), ratio)


def _single(value: float | None) -> Spread | None:
    return None if value is None else Spread.of([float(value)])


def _term(trial: Trial) -> float:
    return trial.term_s


def _terms_waited(trial: Trial) -> float:
    return trial.life.waited_s / trial.term_s


def _leases(trial: Trial) -> float:
    return trial.life.leases


def _renewals_per_s(trial: Trial) -> float:
    return trial.life.renewals / trial.life.lived_s


def _rate(trial: Trial, engine: str, what: str, name: str) -> float | None:
    activity = trial.activity(engine, what)
    return None if activity is None else float(getattr(activity, name))


def _agent_of(engine: str) -> _Figure:
    return lambda trial: _times(100, _rate(trial, engine, "agent", "thread_share"))


def _cost_of(engine: str, what: str) -> _Figure:
    return lambda trial: _times(100, _rate(trial, engine, what, "spent_share"))


def _pause_of(engine: str, what: str) -> _Figure:
    return lambda trial: _times(1000, _rate(trial, engine, what, "longest_s"))


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def goals(trials: Trials, lives_s: float) -> list[Goal]:
    """The goal: a lease of one second lives."""
    ours, stock = living(trials, "kvlease"), living(trials, "stock")
    found = f"kvlease {_describe(trials['kvlease'], ours)}; stock {_describe(trials['stock'], stock)}"
    return [
        Goal(
            text=f"a lease of {GOAL_S:g} s lives {lives_s:g} s without one false expiry",
            found=found,
            met=ours is not None and ours.term_s <= GOAL_S,
        )
    ]


def _describe(tried: Sequence[Trial], lives: Trial | None) -> str:
    if lives is None:
        return f"none of {', '.join(f'{trial.term_s:g}' for trial in tried)} s lived"
    return f"{lives.term_s:g} s ({lives.life.leases} leases, none expired falsely)"


def curves(trials: Trials) -> list[Curves]:
    """The longest pause in each second of that which sends the renewals on D."""
    series: dict[str, list[tuple[float, Spread]]] = {}
    for connector, tried in trials.items():
        trial, what = tried[-1], "agent" if connector == "kvlease" else "steps"
        label = f"{connector}, term {trial.term_s:g} s: D's {what}"
        series[label] = [
            (second.at - trial.life.began, Spread.of([1000 * second.longest_s]))
            for second in trial.seconds["D", what][1:]
        ]
    if not all(series.values()):
        return []
    return [Curves(x="time, s", y="longest pause in each second, ms", series=series, log_y=True)]


def notes(trials: Trials, queue: Queue) -> list[str]:
    """Describes the traffic, the terms that were given up, and what limits those that live."""
    found = [
        f"P's core: {queue.others} clients with prompts of {queue.others_shortest} to {queue.others_longest} tokens, "
        f"never a pause. D's core: {queue.seats} seats, always taken by answers of {queue.answer_tokens} tokens, and "
        f"{queue.waiting} requests in the queue, first come, first served. Each lease is wanted until it is read, so "
        "each that P takes back is a false expiry. Three requests before the beginning have opened the sessions.",
    ]
    for connector, tried in trials.items():
        found += [_given_up(trial) for trial in tried if not trial.lives]
        lives = living(trials, connector)
        if lives is not None:
            found.append(_limit(lives))
    return found


def _given_up(trial: Trial) -> str:
    life = trial.life
    return (
        f"{trial.connector}, term {trial.term_s:g} s: first false expiry within {life.first_expiry_s:.0f} s, "
        f"{life.false_expiries} of {life.leases} leases by then. {_pauses(trial)}"
    )


def _limit(trial: Trial) -> str:
    margin_ms = 1000 * trial.term_s * (_EXTENSION - _INTERVAL)
    text = f"{trial.connector}, term {trial.term_s:g} s lived {trial.life.lived_s:.0f} s. {_pauses(trial)}"
    if trial.connector == "kvlease":
        text += (
            f" It dies where D's agent sends nothing for {margin_ms:.0f} ms longer than an interval, or where a "
            "reference takes longer than a term from P to D's scheduler."
        )
        if trial.term_s <= GOAL_S:
            text += " kvlease takes no shorter term."
    if trial.life.failed:
        text += f" {trial.life.failed} requests got no answer."
    return text


def _pauses(trial: Trial) -> str:
    names = {("D", "agent"): "D's agent", ("P", "agent"): "P's agent", ("D", "steps"): "D's steps"}
    said = []
    for (engine, what), name in names.items():
        activity = trial.activity(engine, what)
        if activity is not None and activity.per_s:
            longest, waited = 1000 * activity.longest_s, 1000 * activity.waited_s
            said.append(f"{name} {longest:.0f} ms ({waited:.0f} ms of it without a core)")
    return f"Longest pauses: {', '.join(said)}." if said else ""
