"""Parts of the world, each on its own.

An agent, an engine and the books each see nothing but their inputs. So what one of them does with an input is worked
out once, by the product's code on a copy, and looked up ever after; and a state of the world is a handful of small
numbers, one for each part. Spin stores states like that ("collapse", Holzmann 1997). It is exact: two parts have one
number when their normal forms are the same, byte by byte, and two states are the same when all their numbers are.

Copies are made by pickling, which takes 60 µs there and back for an agent; `copy.deepcopy` takes 130, and playing the
way to it again takes a millisecond an action.
"""

import hashlib
import pickle
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from proof.explore.canonical import CLOCKS, form
from proof.promises.safety import Violation

T = TypeVar("T")
NOBODY = 0
"""The number of a part that is not there: a dead engine's."""
Input = tuple[Any, ...]


class Parts:
    """All parts that were ever seen, by number, and what they do.

    Attributes: `computed` counts what was worked out, `looked_up` what was asked.
    """

    def __init__(self) -> None:
        self.computed = self.looked_up = 0
        self._numbers: dict[bytes, int] = {}
        self._pickles: list[bytes] = [b""]
        self._rests: dict[int, bytes] = {}
        self._done: dict[tuple[int, float, Input], tuple[int, Any]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, part: object) -> int:
        """Returns the number of this part, a new one for a part that was never seen."""
        key = form(part)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._pickles)
            self._pickles.append(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
        return number

    def part(self, number: int) -> Any:
        """A copy of the part, to look at."""
        return pickle.loads(self._pickles[number])

    def run(self, number: int, now: float, entry: Input) -> tuple[int, Any]:
        """Returns (the number of what the part becomes, its outcome) when it gets this input now.

        `entry` is the name of one of its methods, and its arguments. Raises `Violation`; any other exception of the
        code under test is one of the rule `error`.
        """
        key = (number, now, entry)
        self.looked_up += 1
        done = self._done.get(key)
        if done is None:
            done = self._done[key] = self._work_out(number, now, entry)
        return done

    def _work_out(self, number: int, now: float, entry: Input) -> tuple[int, Any]:
        self.computed += 1
        part = self.part(number)
        part.clock.now = now
        try:
            outcome = getattr(part, entry[0])(*entry[1:])
        except Violation:
            raise
        except Exception as e:
            raise Violation("error", f"{entry[0]}: {type(e).__name__}: {e}") from e
        return self.add(part), outcome

    def is_quiet(self, before: int, after: int) -> bool:
        """Tells whether the two parts differ in nothing but the time that they have seen."""
        return before == after or self._rest(before) == self._rest(after)

    def _rest(self, number: int) -> bytes:
        rest = self._rests.get(number)
        if rest is None:
            rest = self._rests[number] = hashlib.blake2b(form(self.part(number), CLOCKS), digest_size=16).digest()
        return rest


class View(Generic[T]):
    """A view of parts: what `look` sees in a part, looked at once for each."""

    def __init__(self, parts: Parts, look: Callable[[Any], T]) -> None:
        self._parts, self._look = parts, look
        self._seen: dict[int, T] = {}

    def __call__(self, number: int) -> T:
        try:
            return self._seen[number]
        except KeyError:
            seen = self._seen[number] = self._look(self._parts.part(number))
            return seen
