"""Results as files."""

from pathlib import Path
from typing import Any

import msgspec


def write(path: Path, content: Any) -> None:
    """Writes a text as it is, and anything else as JSON; makes the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
