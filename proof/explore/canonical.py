"""The normal form of any object of the product; two parts of the world are the same when it is.

Two objects with the same form have the same future. The argument: the form holds every field of every object that can
be reached, with its class, so code that reads fields cannot tell the two apart, except by what is left out on purpose:

- fields in `IGNORED`: counters for metrics, which nothing reads back, constants, what is for listings alone, and the
  time of the last input;
- the order of a dict whose order nobody asks for (`UNORDERED`), and of a set. The sets hold tokens and incarnations,
  and CPython walks a small set of whole numbers by their remainders by 8: those here differ in it (`producer.TOKENS`,
  `draft.CONSUMERS`), so there is one order;
- the history of an `ExpiryQueue`'s buckets: it looks at them in the order of their ticks only.

A field that is added to the product is in the form without a change here. An object that has neither fields nor a rule
here is an error, not a guess.
"""

import enum
import functools
import itertools
import marshal
import types
from collections import deque
from collections.abc import Mapping
from typing import Any

from kvlease.protocol.clock import ExpiryQueue

IGNORED: Mapping[str, frozenset[str]] = {
    "Lessor": frozenset({"counts", "timing"}),
    "Lessee": frozenset({"counts", "timing"}),
    "AgentCore": frozenset({"_counts"}),
    "Lease": frozenset({"number"}),
    "ConsumerSession": frozenset({"heard_at"}),
    "ProducerSide": frozenset({"counts", "ended"}),
    "ConsumerSide": frozenset({"bad_references", "other_prompts", "released", "wasted_tokens", "_wasted"}),
    # It is set before each input, so its earlier value changes nothing.
    "ManualClock": frozenset({"now"}),
}
UNORDERED: Mapping[str, frozenset[str]] = {
    # They are walked only when the producer shuts down and says Bye to everybody, in messages that are on their way
    # together.
    "Lessor": frozenset({"sessions", "leases"}),
    "Peer": frozenset({"_links"}),
    "ProducerSide": frozenset({"_prompts"}),
    "Wire": frozenset({"reachable"}),
    "WatchedSlots": frozenset({"_by_request", "_by_token"}),
    "OrderedFences": frozenset({"_clearing", "_cleared"}),
    "_Owners": frozenset({"_sole", "_shared"}),
    "LeasedBlocks": frozenset({"_sizes"}),
    "ExploredPool": frozenset({"references"}),
    # The books are asked by key; what they say of several things, they say in their order.
    "Safety": frozenset({"leases", "_slots", "_words", "_workers", "_leases_of"}),
    "Settled": frozenset({"causes", "_claimants", "_dropping", "_settled"}),
}
CLOCKS: Mapping[str, frozenset[str]] = {
    "ForgivingClock": frozenset({"_last"}),
    "ExpiryQueue": frozenset({"next_tick"}),
    "Lessor": frozenset({"_probe_timers"}),
}
"""The fields that even a turn in which nothing was due changes."""

_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})


def form(thing: object, leave_out: Mapping[str, frozenset[str]] | None = None) -> bytes:
    """The normal form of `thing`, without the fields in `leave_out` (class name to fields)."""
    # Version 2 of marshal's format knows no references: equal values give equal bytes.
    return marshal.dumps(_Form(leave_out or {}).of(thing), 2)


class _Form:
    def __init__(self, leave_out: Mapping[str, frozenset[str]]) -> None:
        self._leave_out = leave_out
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []

    def of(self, thing: Any) -> Any:
        kind = type(thing)
        if kind in _PLAIN:
            return thing
        if kind is dict or issubclass(kind, dict):
            return ("dict", *[(self.of(key), self.of(value)) for key, value in thing.items()])
        if issubclass(kind, list | deque | tuple):
            return (kind.__name__, *map(self.of, thing))
        if issubclass(kind, set | frozenset):
            return ("set", *sorted(map(self.of, thing), key=repr))
        if issubclass(kind, enum.Enum):
            return (kind.__name__, thing.name)
        if kind is itertools.count or kind is range:
            return repr(thing)
        if kind is type:
            return thing.__name__
        return self._object(thing, kind)

    def _object(self, thing: Any, kind: type) -> Any:
        if kind is types.MethodType:
            return ("method", thing.__func__.__qualname__, self.of(thing.__self__))
        if kind is types.FunctionType:
            return ("function", thing.__qualname__)
        if kind is functools.partial:
            return ("partial", self.of(thing.func), self.of(thing.args), self.of(thing.keywords))
        if (number := self._seen.get(id(thing))) is not None:
            return ("again", number)
        self._seen[id(thing)] = len(self._seen)
        # The object is kept alive, so that no other one gets its id while the form is made.
        self._kept.append(thing)
        if isinstance(thing, ExpiryQueue):
            buckets = tuple((tick, tuple(map(self.of, bucket))) for tick, bucket in thing.snapshot())
            return (buckets, None if "next_tick" in self._out("ExpiryQueue") else thing.next_tick)
        out = self._out(kind.__name__)
        unordered = UNORDERED.get(kind.__name__, ())
        form: list[Any] = [kind.__name__]
        for name in field_names(kind, thing):
            if name not in out:
                value: Any = getattr(thing, name, None)
                form += (name, self.of(dict(sorted(value.items())) if name in unordered else value))
        return tuple(form)

    def _out(self, name: str) -> frozenset[str]:
        return IGNORED.get(name, frozenset()) | self._leave_out.get(name, frozenset())


def field_names(kind: type, thing: object) -> list[str]:
    """Every field of an object, wherever Python keeps it. Raises `TypeError` for one whose fields cannot be seen."""
    slots = _slots(kind)
    held = getattr(thing, "__dict__", None)
    if held is None and not slots:
        raise TypeError(f"{kind.__name__} cannot be compared: its fields cannot be seen")
    return [*slots, *sorted(held or ())]


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    names: list[str] = []
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names += (slots,) if isinstance(slots, str) else slots
    return tuple(sorted(set(names) - {"__weakref__", "__dict__"}))
