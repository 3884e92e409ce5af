"""The planted bug as a type, and the list of all of them.

A planted bug replaces methods of the product's own code, so that a promise no longer holds. A simulation that does not
find it would not find its like either.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

Replacement = tuple[object, str, object]
"""(class or module, name in it, what stands there instead)"""
Replacements = Callable[[], Iterable[Replacement]]


def honest(owner: type, name: str) -> Any:
    """Returns what `owner` has under this name, which may be a private one, while nothing is planted."""
    return getattr(owner, name)


PLANTED: dict[str, "Planted"] = {}
"""All planted bugs by name, in the order in which the modules of this package define them."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A planted bug; `apply` plants it in this process for as long as the context lasts."""

    name: str
    what: str
    """The wrong behaviour, in one sentence."""
    stands_for: str
    """The threads, or the rule of the design, that it is a case of."""
    rules: frozenset[str]
    """The promises that it breaks: a run has to fail under one of them."""
    within_runs: int | None
    """The number of runs in which it has to be found, whatever seed they begin with. None: chance meets it too seldom
    to be waited for; the explorer has to find it (`tests/proof/explore/`)."""
    replacements: Replacements
    routed: bool = False
    """True for a bug of the router. All others are hunted in runs in which it has no requests."""
    struck: bool = False
    """True for a bug of the router that is hunted in the small world: a run is one with one strike, at a point that
    chance draws (`proof.simulate.points`)."""

    @contextmanager
    def apply(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, instead in list(self.replacements()):
                stack.enter_context(patch.object(owner, name, instead))
            yield


def planted(
    *rules: str, within_runs: int | None, stands_for: str, routed: bool = False, struck: bool = False
) -> Callable[[Replacements], Replacements]:
    """Enter the decorated function as a planted bug, with its name, its first line, and what it yields."""

    def enter(replacements: Replacements) -> Replacements:
        name = replacements.__name__
        what = (replacements.__doc__ or "").split("\n", 1)[0]
        assert name not in PLANTED, name
        PLANTED[name] = Planted(name, what, stands_for, frozenset(rules), within_runs, replacements, routed, struck)
        return replacements

    return enter
