"""The free memory and the steps that engines wrote down of themselves (`probe.py`), read while they run."""

import sys
from dataclasses import dataclass
from pathlib import Path

from proof.bench.ends.probe import POOL, STEPS, record_path
from proof.realengines.spec import BLOCK_TOKENS


def launcher(directory: Path, name: str) -> tuple[str, ...]:
    """The `EngineSpec.launcher` of an engine that writes down its pool and its steps, under this name."""
    return sys.executable, "-m", "proof.bench.ends.probe", str(directory), name


@dataclass(frozen=True)
class Watch:
    """The records of one engine. Times are those of time.monotonic, the same in all processes of a machine."""

    directory: Path
    name: str

    def whole_at(self, since: float) -> float | None:
        """The time at which the last of the blocks that came into use after `since` were free again; None while some
        are in use, or none has been."""
        lines = self._lines(POOL, since)
        if not lines or lines[-1][1]:
            return None
        whole_at = lines[-1][0]
        for at, in_use in reversed(lines):
            if in_use:
                return whole_at
            whole_at = at
        return whole_at

    def computed(self, since: float) -> bool:
        """Tells whether a prompt was computed after `since`: a step had more tokens than answers and reads need."""
        return any(tokens > BLOCK_TOKENS for _, tokens in self._lines(STEPS, since))

    def _lines(self, what: str, since: float) -> list[tuple[float, int]]:
        path = record_path(self.directory, self.name, what)
        if not path.exists():
            return []
        found = []
        # The last line may be half written; and who asks for the latest need not read from the beginning.
        for line in reversed(path.read_text().splitlines(keepends=True)):
            if not line.endswith("\n"):
                continue
            at, number = line.split()
            if float(at) < since:
                break
            found.append((float(at), int(number)))
        return found[::-1]
