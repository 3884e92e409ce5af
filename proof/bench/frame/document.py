"""A benchmark's JSON: what it found, on which machine, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Effort, Goal, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Result):
    """One run of one benchmark, as `out/bench/<name>.json` has it: what was found, and of what."""

    effort: Effort
    at: str
    """The time of its beginning, in UTC, as ISO 8601."""
    took_s: float
    commit: str
    machine: Mapping[str, str]

    @classmethod
    def of(
        cls, result: Result, *, effort: Effort, at: str, took_s: float, commit: str, machine: Mapping[str, str]
    ) -> "Document":
        found = {each.name: getattr(result, each.name) for each in fields(result)}
        return cls(**found, effort=effort, at=at, took_s=round(took_s, 1), commit=commit, machine=machine)

    @property
    def missed(self) -> list[Goal]:
        return [goal for goal in self.goals if goal.met is False]


def read(path: Path) -> Document:
    """Reads one document. Raises `CannotRun` for a file that no benchmark of this version has written."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise CannotRun(
            f"{path} was not written by a benchmark of this version ({e}): remove it or run it again"
        ) from e


def read_all(directory: Path, order: Sequence[str]) -> list[Document]:
    """Reads the documents of those benchmarks in `order` that have been run. Raises `CannotRun`."""
    paths = [directory / f"{name}.json" for name in order]
    return [read(path) for path in paths if path.is_file()]
