"""The end of an engine, as its log tells of it."""

import re
from pathlib import Path

_TAIL_LINES = 25
_CAUSE = re.compile(r" ERROR .*\] ((?:\w+\.)*\w*(?:Error|Exception)\b: .*)")
"""An exception's last line as vLLM's processes log it. The tail alone tells of what followed, not of the cause."""


def last_words(log: Path) -> str:
    """Returns the cause that the log gives, if it does, and the log's end."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    causes = [match[1] for line in lines if (match := _CAUSE.search(line)) and "EngineDeadError" not in line]
    cause = f"its log says: {causes[-1]}\n" if causes else ""
    return f"{cause}the end of {log}:\n" + "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:])
