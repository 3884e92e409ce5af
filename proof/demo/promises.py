"""The promises of kvlease, scenario by scenario, and whether they were kept.

Every figure is a number where less is better, and a promise is an upper limit. A figure is also taken for stock vLLM,
and shown beside kvlease's; nothing is promised for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from proof.demo.outcome import ActOutcome, ScenarioName
from proof.realengines.spec import Connector

Unit = Literal["s", "of answers", "of leases", "of prefills"]


@dataclass(frozen=True)
class DemoPromise:
    """One figure of one scenario. `limit` is exclusive for seconds and inclusive for counts."""

    scenario: ScenarioName
    figure: str
    unit: Unit
    limit: float
    measure: Callable[[ActOutcome], float | None]

    @property
    def limit_text(self) -> str:
        """The promise in words."""
        return f"under {self.limit:g} s" if self.unit == "s" else "none"

    def is_kept(self, value: float) -> bool:
        """Tells whether a measured value is within the limit."""
        return value < self.limit if self.unit == "s" else value <= self.limit


@dataclass(frozen=True)
class Judgement:
    """A promise beside what was measured. None: not played with this connector."""

    promise: DemoPromise
    stock: ActOutcome | None
    kvlease: ActOutcome | None

    @property
    def kept(self) -> bool | None:
        """Tells whether kvlease kept the promise; None where kvlease was not played."""
        if self.kvlease is None:
            return None
        value = self.promise.measure(self.kvlease)
        # A figure that could not be taken is no figure that was kept.
        return value is not None and self.promise.is_kept(value)


def _freed_after_s(outcome: ActOutcome) -> float | None:
    return outcome.freed_after_s


def _not_right(outcome: ActOutcome) -> float | None:
    # The policy is to recompute: a request that fails is as little an answer as a wrong one.
    return None if outcome.answers is None else outcome.answers.wrong + outcome.answers.failed


def _lost(outcome: ActOutcome) -> float | None:
    return None if outcome.counts is None else outcome.counts.leases_lost


def _computed_again(outcome: ActOutcome) -> float | None:
    if outcome.answers is None or outcome.counts is None:
        return None
    return outcome.answers.total - outcome.counts.read


def _again(outcome: ActOutcome) -> float | None:
    return outcome.again


PROMISES: tuple[DemoPromise, ...] = (
    DemoPromise("stall", "wrong answers after a stall, P's memory reused", "of answers", 0, _not_right),
    DemoPromise("stall-free", "wrong answers after a stall, P's memory free", "of answers", 0, _not_right),
    DemoPromise("stall-free", "prefills computed again after it", "of prefills", 0, _computed_again),
    DemoPromise("long-step", "leases lost in the long step", "of leases", 0, _lost),
    DemoPromise("long-step", "wrong answers after the long step", "of answers", 0, _not_right),
    DemoPromise("queue", "leases lost in the long queue", "of leases", 0, _lost),
    DemoPromise("queue", "wrong answers after the long queue", "of answers", 0, _not_right),
    DemoPromise("failover", "not answered, one of two Ds killed", "of answers", 0, _not_right),
    DemoPromise("failover", "prompts prefilled twice for it", "of prefills", 0, _again),
    DemoPromise("crash", "P's blocks free after the crash", "s", 2.0, _freed_after_s),
    DemoPromise("crash", "wrong answers of another D, sent the same", "of answers", 0, _not_right),
    DemoPromise("crash", "prefills computed again by it", "of prefills", 0, _computed_again),
)


def judge(outcomes: Sequence[ActOutcome]) -> list[Judgement]:
    """Every promise about a scenario that was played, in the order of the table."""
    played: dict[tuple[ScenarioName, Connector], ActOutcome] = {(o.scenario, o.connector): o for o in outcomes}
    verdicts = [
        Judgement(promise, played.get((promise.scenario, "stock")), played.get((promise.scenario, "kvlease")))
        for promise in PROMISES
    ]
    return [verdict for verdict in verdicts if verdict.stock or verdict.kvlease]
