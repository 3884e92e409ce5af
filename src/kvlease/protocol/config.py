"""The settings of a lease, with derived defaults and errors that say what to write (R10).

An operator needs to set no more than the duration; every other default follows from it, in the proportions that the
lease was designed with (R2). An error names the setting, but not the file that it came from: the caller knows that.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kvlease.errors import ConfigError
from kvlease.protocol.lease import MAX_SLOTS

PREFIX = "kv_lease_"

MIN_DURATION_S = 1.0
MAX_DURATION_S = 24 * 3600.0
DEFAULT_DURATION_S = 30.0


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """The settings of a lease: durations in seconds, and choices. `resolve` makes one, derives what is not given, and
    checks all."""

    duration_s: float
    """The term of a lease: the time for which a prefill's blocks wait for a decode engine to ask for them (R1)."""
    extension_s: float
    """The reach of a renewal: the time for which a decode engine's leases live after its last renewal arrived (R2)."""
    renew_interval_s: float
    """The time between a decode engine's renewals, each of them one message for all leases of a pair (R2)."""
    orphan_grace_s: float
    """The time for which a dead decode engine's leases wait for another one to take over (R18, R23)."""
    max_age_s: float
    """The age at which a lease ends, renewed or not (R25)."""
    stall_limit_s: float
    """The time that one step of a decode engine may take before the engine stops renewing (R25)."""
    probe_interval_s: float
    """The time between the probes by which a silent prefill engine learns of a decode engine's death (R18)."""
    fence_slots: int | None
    """The most leases that can be out at once (R12)."""
    compare_media: bool = True
    """True: a prefill with images and the like is read only by a request with the same ones. False: they are not
    compared, where decode engines are given stand-ins for them (R35)."""


@dataclass(frozen=True, slots=True)
class Default:
    """The default of a setting: a number of seconds, or a multiple of another setting."""

    number: float
    times: str = ""
    """The key of that other setting."""
    least: float = 0.0
    most: str = ""
    """The key of a setting that it does not exceed."""

    def value(self, settings: Mapping[str, float]) -> float:
        """Returns the default, in seconds, given these other settings by key."""
        value = self.number * settings[self.times] if self.times else self.number
        return max(self.least, min(value, settings[self.most]) if self.most else value)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A setting that is a number of seconds, from `low` to `high`."""

    key: str
    low: float
    high: float
    meaning: str
    """The setting in a few words, for an error."""
    default: Default


DURATION = "kv_lease_duration"
EXTENSION = "kv_lease_extension"
RENEW_INTERVAL = "kv_lease_renew_interval"
ORPHAN_GRACE = "kv_lease_orphan_grace"
MAX_AGE = "kv_lease_max_age"
STALL_LIMIT = "kv_lease_stall_limit"
PROBE_INTERVAL = "kv_lease_probe_interval"
SECONDS = (
    Seconds(DURATION, MIN_DURATION_S, MAX_DURATION_S, "the term of a lease", Default(DEFAULT_DURATION_S)),
    Seconds(EXTENSION, 0.5, MAX_DURATION_S, "how far a renewal reaches", Default(2 / 3, times=DURATION)),
    Seconds(RENEW_INTERVAL, 0.05, MAX_DURATION_S, "the time between renewals", Default(1 / 4, times=EXTENSION)),
    Seconds(
        ORPHAN_GRACE,
        0.0,
        MAX_DURATION_S,
        "how long a dead consumer's leases wait for another",
        Default(0.0),
    ),
    Seconds(
        MAX_AGE,
        MIN_DURATION_S,
        7 * MAX_DURATION_S,
        "the age at which a lease ends, renewed or not",
        Default(20.0, times=DURATION),
    ),
    Seconds(
        STALL_LIMIT,
        MIN_DURATION_S,
        MAX_DURATION_S,
        "the longest step of a consumer's engine",
        Default(4.0, times=DURATION, least=120.0),
    ),
    Seconds(PROBE_INTERVAL, 0.05, 60.0, "how often a producer probes its consumers", Default(0.25)),
)
"""All settings in seconds, in an order in which each default follows from those before it."""
FENCE_SLOTS = "kv_lease_fence_slots"
COMPARE_MEDIA = "kv_lease_compare_media"
KEYS = (*(setting.key for setting in SECONDS), FENCE_SLOTS, COMPARE_MEDIA)


def resolve(settings: Mapping[str, object], others: Collection[str] = ()) -> LeaseConfig:
    """Returns the configuration that these settings make. Keys without the prefix `kv_lease_` are ignored.

    `others`: keys with the prefix that somebody else reads.

    Raises `ConfigError`, which names the key, its value, what is allowed, and an example as JSON.
    """
    _refuse_unknown(settings, others)
    given = {s.key: _number(s, settings[s.key]) for s in SECONDS if s.key in settings}
    seconds = _with_defaults(given)
    config = LeaseConfig(
        duration_s=seconds[DURATION],
        extension_s=seconds[EXTENSION],
        renew_interval_s=seconds[RENEW_INTERVAL],
        orphan_grace_s=seconds[ORPHAN_GRACE],
        max_age_s=seconds[MAX_AGE],
        stall_limit_s=seconds[STALL_LIMIT],
        probe_interval_s=seconds[PROBE_INTERVAL],
        fence_slots=_slots(settings.get(FENCE_SLOTS)),
        compare_media=_compare_media(settings.get(COMPARE_MEDIA, True)),
    )
    _check_proportions(config)
    return config


def _with_defaults(given: Mapping[str, float]) -> dict[str, float]:
    """Returns all settings in seconds by key, with defaults for those that are not given."""
    seconds: dict[str, float] = {}
    for setting in SECONDS:
        seconds[setting.key] = given[setting.key] if setting.key in given else setting.default.value(seconds)
    return seconds


_DEFAULTS = _with_defaults({})


def _refuse_unknown(settings: Mapping[str, object], others: Collection[str]) -> None:
    known = (*KEYS, *others)
    for key in settings:
        if key.startswith(PREFIX) and key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"{key} is not a setting of kvlease; {hint}")


def _number(setting: Seconds, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not setting.low <= value <= setting.high:
        raise ConfigError(
            f"{setting.key} is {value!r}: {setting.meaning} must be a number of seconds "
            f"from {setting.low:g} to {setting.high:g}, for example "
            f'{{"{setting.key}": {_DEFAULTS[setting.key]:g}}}'
        )
    return float(value)


def _slots(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SLOTS:
        raise ConfigError(
            f"{FENCE_SLOTS} is {value!r}: it must be a whole number from 1 to "
            f'{MAX_SLOTS}, for example {{"{FENCE_SLOTS}": 65536}}; left out, there is one slot for each KV cache block'
        )
    return value


def _compare_media(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(
            f"{COMPARE_MEDIA} is {value!r}: whether a prefill is read only by a request "
            f'with the same images must be true or false, for example {{"{COMPARE_MEDIA}": false}} where a decode '
            "engine is given stand-ins for them"
        )
    return value


def _check_proportions(config: LeaseConfig) -> None:
    fitting = _with_defaults({DURATION: config.duration_s, EXTENSION: config.extension_s})
    if config.renew_interval_s * 2 > config.extension_s:
        raise ConfigError(
            f"{RENEW_INTERVAL} is {config.renew_interval_s:g} and {EXTENSION} {config.extension_s:g}: a renewal must "
            "reach over at least two intervals, so that one lost message loses no lease; write, for example, "
            f'{{"{RENEW_INTERVAL}": {fitting[RENEW_INTERVAL]:g}}}'
        )
    if config.max_age_s < config.duration_s:
        raise ConfigError(
            f"{MAX_AGE} is {config.max_age_s:g} and {DURATION} {config.duration_s:g}: no lease would live through its "
            f'own term; write, for example, {{"{MAX_AGE}": {fitting[MAX_AGE]:g}}}'
        )
    if config.orphan_grace_s > config.duration_s:
        raise ConfigError(
            f"{ORPHAN_GRACE} is {config.orphan_grace_s:g} and {DURATION} {config.duration_s:g}: a dead consumer's "
            f'leases would outlive a silent one\'s; write, for example, {{"{ORPHAN_GRACE}": {fitting[ORPHAN_GRACE]:g}}}'
        )
