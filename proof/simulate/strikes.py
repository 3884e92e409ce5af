"""The strikes of the small world: what goes wrong at one of its points, to stay so until the run ends."""

import enum
from collections.abc import Callable, Mapping

from proof.simulate.world import SimWorld

BACK_S = 0.4
"""The time after which an engine that was restarted, or stopped for a while, is back."""
FOR_EVER_S = 1000.0
"""Longer than any run of the small world."""


class Strike(enum.StrEnum):
    """The things that go wrong, at one engine, or with one client."""

    DIES = "dies"
    """Its process is killed: connections are reset, and others notice."""
    VANISHES = "vanishes"
    """Its host is gone: nothing answers, and nobody notices by itself."""
    STOPS = "stops"
    """It stands still for ever (SIGSTOP)."""
    PAUSES = "pauses"
    """It stands still for a moment."""
    RESTARTS = "restarts"
    """It shuts down in good order, and is back soon."""
    DRAINS = "drains"
    """It aborts what it has, and what comes."""
    REFUSES = "refuses"
    """It answers 503 from now on."""
    FAILS = "fails"
    """It answers 500 from now on."""
    REJECTS = "rejects"
    """It answers 400 from now on, as to a client's mistake."""
    LEAVES = "leaves"
    """The client goes away."""


def strike_at(world: SimWorld, strike: Strike, target: str) -> None:
    """Let something go wrong now. `target`: an engine, several ("d0+d1"), or a client ("r0")."""
    for each in target.split("+"):
        _STRIKES[strike](world, each)


def _die(world: SimWorld, name: str) -> None:
    world.crash(name, death_shows=True)


def _vanish(world: SimWorld, name: str) -> None:
    world.crash(name, death_shows=False)


def _stop(world: SimWorld, name: str) -> None:
    _stand_still(world, name, FOR_EVER_S)


def _pause(world: SimWorld, name: str) -> None:
    _stand_still(world, name, BACK_S)


def _stand_still(world: SimWorld, name: str, for_s: float) -> None:
    engine = world.engines[name]
    until = world.agenda.now + for_s
    world.promises.trouble.of_engine(name, until)
    engine.frozen_s += for_s
    engine.frozen_until = until


def _restart(world: SimWorld, name: str) -> None:
    world.shut_down(name)
    world.agenda.after(BACK_S, lambda: world.start(name))


def _drain(world: SimWorld, name: str) -> None:
    _is_ill(world, name)
    world.fronts.draining[name] += 1
    world.fronts.drain(name)


def _refuse(world: SimWorld, name: str) -> None:
    _is_ill(world, name)
    world.fronts.busy[name] += 1


def _fail(world: SimWorld, name: str) -> None:
    _is_ill(world, name)
    world.fronts.errors[name] += 1


def _is_ill(world: SimWorld, name: str) -> None:
    world.fronts.ill_until[name] = float("inf")


def _reject(world: SimWorld, name: str) -> None:
    _is_ill(world, name)
    world.fronts.rejecting[name] += 1


def _leave(world: SimWorld, name: str) -> None:
    assert world.router is not None
    world.router.leave(int(name[1:]))


_STRIKES: Mapping[Strike, Callable[[SimWorld, str], None]] = {
    Strike.DIES: _die,
    Strike.VANISHES: _vanish,
    Strike.STOPS: _stop,
    Strike.PAUSES: _pause,
    Strike.RESTARTS: _restart,
    Strike.DRAINS: _drain,
    Strike.REFUSES: _refuse,
    Strike.FAILS: _fail,
    Strike.REJECTS: _reject,
    Strike.LEAVES: _leave,
}
