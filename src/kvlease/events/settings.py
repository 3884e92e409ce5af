"""The settings of events."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvlease.errors import ConfigError, brief

FOLDER = "kv_lease_events"
SAMPLE = "kv_lease_events_sample"
MEGABYTES = "kv_lease_events_mb"
KEYS = (FOLDER, SAMPLE, MEGABYTES)
DEFAULT_SAMPLE = 1.0
DEFAULT_MEGABYTES = 64
LEAST_MEGABYTES, MOST_MEGABYTES = 1, 1_000_000


@dataclass(frozen=True, slots=True)
class EventSettings:
    """The settings of an engine that writes events."""

    folder: Path
    """The directory for its files."""
    sample: float = DEFAULT_SAMPLE
    """The share of leases that is written down, 0 to 1: the same ones on all engines."""
    megabytes: float = DEFAULT_MEGABYTES
    """The most that the files of one process may have together."""


def event_settings(settings: Mapping[str, object]) -> EventSettings | None:
    """Returns the settings of events; None where none are asked for. Keys of others are ignored. Raises
    `ConfigError`."""
    sample = _number(SAMPLE, settings.get(SAMPLE, DEFAULT_SAMPLE), 0.0, 1.0, "the share of leases to write down", "0.1")
    megabytes = _number(
        MEGABYTES,
        settings.get(MEGABYTES, DEFAULT_MEGABYTES),
        LEAST_MEGABYTES,
        MOST_MEGABYTES,
        "the megabytes that the files of a process may have",
        str(DEFAULT_MEGABYTES),
    )
    folder = settings.get(FOLDER)
    if folder is None:
        return None
    if not isinstance(folder, str) or not folder or "\0" in folder:
        raise ConfigError(
            f'{FOLDER} is {brief(folder)}: it must be a directory for files of events, for example {{"{FOLDER}": '
            '"/var/log/kvlease"}; leave it out to write none'
        )
    return EventSettings(Path(folder), sample, megabytes)


def _number(key: str, value: object, low: float, high: float, meaning: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(
            f"{key} is {brief(value)}: {meaning} must be a number from {low:g} to {high:g}, for example "
            f'{{"{key}": {example}}}'
        )
    return float(value)


def check_folder(folder: Path) -> None:
    """Makes the directory, if need be. Raises `ConfigError` where no file can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise ConfigError(
            f"{FOLDER} is {str(folder)!r}, where no file can be written ({e.strerror or e}): make it a directory that "
            f"this engine's user may write to, or leave {FOLDER} out"
        ) from e
