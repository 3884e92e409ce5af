"""The settings of a lease, with derived defaults and errors that say what to write (R10).

They stand in vLLM's `kv_connector_extra_config`, beside vLLM's own `kv_lease_duration`. An operator sets the duration
and is done; every other default follows from it, in the proportions that the lease was designed with (R2).
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from kvlease.errors import ConfigError
from kvlease.protocol.lease import MAX_SLOTS

PREFIX = "kv_lease_"
OLD_VARIABLE = "VLLM_NIXL_ABORT_REQUEST_TIMEOUT"
"""vLLM's flat timeout (seconds) of the days before leases; honoured where no duration is given."""

MIN_DURATION_S = 1.0
MAX_DURATION_S = 24 * 3600.0
DEFAULT_DURATION_S = 30.0
DEFAULT_ORPHAN_GRACE_S = 1.0
DEFAULT_PROBE_INTERVAL_S = 0.25
MIN_PROBE_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """How long things last, in seconds, and what is done. Make one with `resolve`, which derives what is not given and
    checks all."""

    duration_s: float
    """The term of a grant: how long blocks wait for a consumer that nobody has heard of yet (R1)."""
    extension_s: float
    """How long a session lives after the arrival of its last renewal (R2)."""
    renew_interval_s: float
    """How often a consumer renews when nothing else changes (R2)."""
    orphan_grace_s: float
    """How long a dead consumer's leases wait for another one to take over (R18, R23)."""
    max_age_s: float
    """The age at which a lease ends, renewed or not (R25)."""
    stall_limit_s: float
    """How long a consumer's engine may take over one step before its agent stops renewing for it (R25)."""
    probe_interval_s: float
    """How often a silent producer shows itself to a consumer, and so learns of its death (R18)."""
    fence_slots: int | None
    """Leases that can be out at once; None: one for each KV cache block, which is never too few."""
    compare_media: bool = True
    """Whether a prefill is read only by a request with the same images and the like (R35); False where decode engines
    are given stand-ins for them."""


@dataclass(frozen=True, slots=True)
class _Setting:
    key: str
    low: float
    high: float
    meaning: str


_NUMBERS: tuple[_Setting, ...] = (
    _Setting("kv_lease_duration", MIN_DURATION_S, MAX_DURATION_S, "the term of a lease"),
    _Setting("kv_lease_extension", 0.5, MAX_DURATION_S, "how far a renewal reaches"),
    _Setting("kv_lease_renew_interval", 0.05, MAX_DURATION_S, "the time between renewals"),
    _Setting("kv_lease_orphan_grace", 0.0, MAX_DURATION_S, "how long a dead consumer's leases wait for another"),
    _Setting("kv_lease_max_age", MIN_DURATION_S, 7 * MAX_DURATION_S, "the age at which a lease ends, renewed or not"),
    _Setting("kv_lease_stall_limit", MIN_DURATION_S, MAX_DURATION_S, "the longest step of a consumer's engine"),
    _Setting("kv_lease_probe_interval", MIN_PROBE_INTERVAL_S, 60.0, "how often a producer probes its consumers"),
)
_SLOTS = "kv_lease_fence_slots"
_COMPARE_MEDIA = "kv_lease_compare_media"
_KEYS = (*(s.key for s in _NUMBERS), _SLOTS, _COMPARE_MEDIA)


def resolve(
    extra_config: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> tuple[LeaseConfig, list[str]]:
    """The settings in `extra_config`, and the warnings to log about them.

    `extra_config` is vLLM's `kv_connector_extra_config`: keys without the prefix `kv_lease_` are not ours and are
    ignored. `environment` is looked into for `OLD_VARIABLE` alone. Raises `ConfigError`.
    """
    _refuse_unknown(extra_config)
    given = {s.key: _number(s, extra_config[s.key]) for s in _NUMBERS if s.key in extra_config}
    warnings: list[str] = []
    if "kv_lease_duration" not in given and (old := (environment or {}).get(OLD_VARIABLE)) is not None:
        given["kv_lease_duration"] = _from_old_variable(old)
        warnings.append(
            f"{OLD_VARIABLE}={old} sets the term of a lease, since no kv_lease_duration is given. The variable is of "
            f'the days before leases; write "kv_lease_duration": {DEFAULT_DURATION_S:g} into kv_connector_extra_config.'
        )
    duration = given.get("kv_lease_duration", DEFAULT_DURATION_S)
    extension = given.get("kv_lease_extension", duration * 2 / 3)
    config = LeaseConfig(
        duration_s=duration,
        extension_s=extension,
        renew_interval_s=given.get("kv_lease_renew_interval", extension / 4),
        orphan_grace_s=given.get("kv_lease_orphan_grace", min(DEFAULT_ORPHAN_GRACE_S, duration)),
        max_age_s=given.get("kv_lease_max_age", duration * 20),
        stall_limit_s=given.get("kv_lease_stall_limit", max(duration * 4, 120.0)),
        probe_interval_s=given.get("kv_lease_probe_interval", DEFAULT_PROBE_INTERVAL_S),
        fence_slots=_slots(extra_config.get(_SLOTS)),
        compare_media=_compare_media(extra_config.get(_COMPARE_MEDIA, True)),
    )
    _check_proportions(config)
    return config, warnings


def _refuse_unknown(extra_config: Mapping[str, object]) -> None:
    for key in extra_config:
        if key.startswith(PREFIX) and key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_KEYS)}"
            raise ConfigError(f"{key} in kv_connector_extra_config is not a setting of kvlease; {hint}")


def _number(setting: _Setting, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not setting.low <= value <= setting.high:
        raise ConfigError(
            f"{setting.key} is {value!r} in kv_connector_extra_config: {setting.meaning} must be a number of seconds "
            f"from {setting.low:g} to {setting.high:g}, for example "
            f'{{"{setting.key}": {_example(setting):g}}}'
        )
    return float(value)


def _example(setting: _Setting) -> float:
    examples = {
        "kv_lease_extension": 20,
        "kv_lease_renew_interval": 5,
        "kv_lease_orphan_grace": DEFAULT_ORPHAN_GRACE_S,
        "kv_lease_max_age": 600,
        "kv_lease_stall_limit": 120,
        "kv_lease_probe_interval": DEFAULT_PROBE_INTERVAL_S,
    }
    return examples.get(setting.key, DEFAULT_DURATION_S)


def _from_old_variable(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not MIN_DURATION_S <= value <= MAX_DURATION_S:
        raise ConfigError(
            f"{OLD_VARIABLE} is {text!r}: it must be a number of seconds from {MIN_DURATION_S:g} to "
            f'{MAX_DURATION_S:g}; better, unset it and write {{"kv_lease_duration": {DEFAULT_DURATION_S:g}}} into '
            "kv_connector_extra_config"
        )
    return value


def _slots(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SLOTS:
        raise ConfigError(
            f"{_SLOTS} is {value!r} in kv_connector_extra_config: it must be a whole number from 1 to {MAX_SLOTS}, "
            f'for example {{"{_SLOTS}": 65536}}; left out, there is one slot for each KV cache block'
        )
    return value


def _compare_media(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(
            f"{_COMPARE_MEDIA} is {value!r} in kv_connector_extra_config: whether a prefill is read only by a request "
            f'with the same images must be true or false, for example {{"{_COMPARE_MEDIA}": false}} where a decode '
            "engine is given stand-ins for them"
        )
    return value


def _check_proportions(config: LeaseConfig) -> None:
    if config.renew_interval_s * 2 > config.extension_s:
        raise ConfigError(
            f"kv_lease_renew_interval is {config.renew_interval_s:g} and kv_lease_extension {config.extension_s:g}: a "
            "renewal must reach over at least two intervals, so that one lost message loses no lease; write, for "
            f'example, {{"kv_lease_renew_interval": {config.extension_s / 4:g}}}'
        )
    if config.max_age_s < config.duration_s:
        raise ConfigError(
            f"kv_lease_max_age is {config.max_age_s:g} and kv_lease_duration {config.duration_s:g}: no lease would "
            f'live through its own term; write, for example, {{"kv_lease_max_age": {config.duration_s * 20:g}}}'
        )
    if config.orphan_grace_s > config.duration_s:
        raise ConfigError(
            f"kv_lease_orphan_grace is {config.orphan_grace_s:g} and kv_lease_duration {config.duration_s:g}: a dead "
            "consumer's leases would outlive a silent one's; write, for example, "
            f'{{"kv_lease_orphan_grace": {min(DEFAULT_ORPHAN_GRACE_S, config.duration_s):g}}}'
        )
