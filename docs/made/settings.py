"""The settings that an operator may give (`kvlease.protocol.config`)."""

from collections.abc import Iterator
from fractions import Fraction

from docs.made.markdown import code, number, table
from docs.made.meanings import documented, without_requirements
from kvlease.admin.settings import EXAMPLE, LISTEN
from kvlease.protocol import LeaseConfig, resolve
from kvlease.protocol.config import COMPARE_MEDIA, FENCE_SLOTS, PREFIX, SECONDS, Default
from kvlease.protocol.lease import MAX_SLOTS


def settings() -> Iterator[str]:
    """Every setting, with all that the code says of it."""
    return table(("key", "default", "allowed", "meaning", "requirement"), _rows())


def _rows() -> Iterator[tuple[str, str, str, str, str]]:
    said = documented(LeaseConfig)
    for setting in SECONDS:
        allowed = f"{number(setting.low)} to {number(setting.high)}"
        field = setting.key.removeprefix(PREFIX) + "_s"
        yield code(setting.key), _default(setting.default), allowed, *without_requirements(said[field])
    slots, media = without_requirements(said["fence_slots"]), without_requirements(said["compare_media"])
    compared = str(resolve({}).compare_media).lower()
    yield code(FENCE_SLOTS), "one for each KV cache block", f"a whole number, 1 to {number(MAX_SLOTS)}", *slots
    yield code(COMPARE_MEDIA), code(compared), "`true` or `false`", *media
    listened = "where the agent listens for its operator ([the second door](admin.md#the-agents-own-listener))"
    yield (
        code(LISTEN),
        "nowhere",
        f"an address and a port, such as {code(EXAMPLE)}",
        listened[0].upper() + listened[1:],
        "",
    )


def _default(default: Default) -> str:
    text = _times(default) if default.times else number(default.number)
    if default.least:
        text += f", at least {number(default.least)}"
    if default.most:
        text += f", at most the {_brief(default.most)}"
    return text


def _times(default: Default) -> str:
    factor = Fraction(default.number).limit_denominator(1000)
    return f"{factor} {'times' if factor > 1 else 'of'} the {_brief(default.times)}"


def _brief(key: str) -> str:
    return key.removeprefix(PREFIX).replace("_", " ")
