"""The promises about our router, and whether they were kept. The others are shown beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proof.failover.arms import OURS
from proof.failover.outcome import FAULTS, SceneRun


@dataclass(frozen=True)
class FailoverPromise:
    """One figure of a scene, which is to be 0. `measure` gives None where it cannot be taken."""

    figure: str
    measure: Callable[[SceneRun], int | None]

    def kept(self, run: SceneRun) -> bool | None:
        """Tells whether it was kept; None where nothing is promised, or nothing can be counted."""
        value = self.measure(run)
        return None if run.arm != OURS.name or value is None else value == 0


def _again(run: SceneRun) -> int | None:
    # With a P that was killed its count is gone; what it had computed has to be computed again.
    return None if run.fault == "p-killed" else run.again


PROMISES: tuple[FailoverPromise, ...] = (
    FailoverPromise("requests without a token lost", lambda run: run.lost),
    FailoverPromise("wrong answers", lambda run: run.wrong),
    FailoverPromise("streams cut without a word", lambda run: run.cut),
    FailoverPromise("prompts prefilled twice", _again),
    FailoverPromise("blocks left on P", lambda run: run.left),
)


def broken(runs: Sequence[SceneRun]) -> list[str]:
    """The promises that were broken, and what else a proof must not have: a fault that befell nobody."""
    found = [
        f"{FAULTS[run.fault]}: {promise.figure}: {promise.measure(run)}"
        for run in runs
        for promise in PROMISES
        if promise.kept(run) is False
    ]
    idle = [FAULTS[run.fault] for run in runs if run.arm == OURS.name and not list(run.without_token())]
    return found + [f"{fault}: no request was without a token" for fault in idle]
