"""The protocol's constants of time and size: every name, its value and what it means."""

from collections.abc import Iterator
from dataclasses import fields
from types import ModuleType

import kvlease.agent.asking
import kvlease.agent.core
import kvlease.agent.fetching
import kvlease.agent.loop
import kvlease.fence.verifier
import kvlease.fence.words
import kvlease.protocol.card
import kvlease.protocol.clock
import kvlease.protocol.lease
import kvlease.protocol.messages
import kvlease.protocol.tracking
import kvlease.vllm.envelope
from docs.made.markdown import code, number, table
from docs.made.meanings import documented, meanings
from kvlease.protocol import TIMING, Timing

UNITS = {"S": "s", "MS": "ms", "US": "µs", "BYTES": "B", "CHARS": "characters"}
"""The unit of a constant's value, by the last part of its name."""
HEAD = ("name", "value", "meaning")


def timing() -> Iterator[str]:
    """The protocol's waits and bounds: the fields of `Timing`."""
    said = documented(Timing)
    return table(HEAD, (_row(field.name, getattr(TIMING, field.name), said[field.name]) for field in fields(Timing)))


def wire() -> Iterator[str]:
    """The bounds and the marks of messages, cards and references."""
    return _constants(kvlease.protocol.messages, kvlease.protocol.card, kvlease.protocol.lease, kvlease.vllm.envelope)


def kept() -> Iterator[str]:
    """The constants of clocks, agents and the fence, which are neither on the wire nor in `Timing`."""
    return _constants(
        kvlease.protocol.clock,
        kvlease.protocol.tracking,
        kvlease.agent.asking,
        kvlease.agent.core,
        kvlease.agent.loop,
        kvlease.agent.fetching,
        kvlease.fence.words,
        kvlease.fence.verifier,
    )


def _constants(*modules: ModuleType) -> Iterator[str]:
    return table(HEAD, (row for module in modules for row in _of(module)))


def _of(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """The module's public constants. Raises ValueError where one has no docstring."""
    for name, said in meanings(module).items():
        value = getattr(module, name)
        if name.isupper() and not name.startswith("_") and isinstance(value, int | float | str | bytes | tuple):
            if not said:
                raise ValueError(f"{module.__name__}.{name} has no docstring below it; write what it means")
            yield _row(name, value, said)


def _row(name: str, value: object, said: str) -> tuple[str, str, str]:
    return code(name), _with_unit(name, value), said


def _with_unit(name: str, value: object) -> str:
    if not isinstance(value, int | float):
        return code(value)
    unit = UNITS.get(name.rpartition("_")[2].upper(), "")
    return f"{number(value)} {unit}".strip()
