"""All that is known of an engine, a lease or a session, as lines of text."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from kvlease.console.numbers import count, percent, size
from kvlease.top.cells import duration


def facts(struct: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each field that is known, in the order of the document."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value is not None and value != {}:
            yield name.removesuffix("_s").replace("_", " "), _text(name, value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{label} {_text(name, part)}" for label, part in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(f"{each.engine_id} ({each.incarnation})" for each in value) or "nobody"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "since":
        return datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S")
    if name.endswith("_s"):
        return duration(value)
    if name.endswith("bytes"):
        return size(value)
    if name == "kv_cache_usage":
        return percent(value)
    return count(value) if isinstance(value, int | float) else str(value)
