"""The settings of kvlease in vLLM's configuration, and the configurations that it refuses to run with."""

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvlease.admin.settings import LISTEN, ListenSettings, listen_settings
from kvlease.errors import ConfigError, UnsupportedEngine
from kvlease.events.settings import KEYS as EVENT_KEYS
from kvlease.events.settings import EventSettings, event_settings
from kvlease.protocol import LeaseConfig, resolve
from kvlease.protocol.config import DEFAULT_DURATION_S, MAX_DURATION_S, MIN_DURATION_S

if TYPE_CHECKING:
    from vllm.config import VllmConfig

OLD_VARIABLE = "VLLM_NIXL_ABORT_REQUEST_TIMEOUT"
"""The variable for the flat timeout (seconds) of vLLM before it had leases; used where no duration is given."""
_PLACE = "kv_connector_extra_config"
_DURATION = "kv_lease_duration"
OTHERS = (LISTEN, *EVENT_KEYS)
"""The keys that are no settings of leases."""
_STOCK = "use vLLM's own NixlConnector"


def lease_config(vllm_config: "VllmConfig") -> tuple[LeaseConfig, list[str]]:
    """Returns the settings of leases, and the warnings to log about them. Raises `ConfigError`."""
    return settings_of(vllm_config.kv_transfer_config.kv_connector_extra_config, os.environ)


def event_settings_of(vllm_config: "VllmConfig") -> EventSettings | None:
    """Returns the settings of events; None where none are asked for. Raises `ConfigError`."""
    return event_settings(vllm_config.kv_transfer_config.kv_connector_extra_config)


def settings_of(extra_config: Mapping[str, object], environment: Mapping[str, str]) -> tuple[LeaseConfig, list[str]]:
    """Returns the settings of leases in vLLM's `kv_connector_extra_config`, and the warnings to log about them.

    Of `environment` only `OLD_VARIABLE` is read. Raises `ConfigError`.
    """
    settings, warnings = dict(extra_config), []
    if _DURATION not in settings and (old := environment.get(OLD_VARIABLE)) is not None:
        settings[_DURATION] = _from_old_variable(old)
        warnings.append(
            f"{OLD_VARIABLE}={old} sets the term of a lease, since no {_DURATION} is given. The variable is of the "
            f'days before leases; write "{_DURATION}": {DEFAULT_DURATION_S:g} into {_PLACE}.'
        )
    try:
        event_settings(settings)
        return resolve(settings, OTHERS), warnings
    except ConfigError as e:
        raise ConfigError(f"in {_PLACE}, {e}") from e


def listen_config(vllm_config: "VllmConfig") -> ListenSettings | None:
    """Returns where the agent listens for its operator, if anywhere. Raises `ConfigError`."""
    settings, parallel = vllm_config.kv_transfer_config.kv_connector_extra_config, vllm_config.parallel_config
    try:
        return listen_settings(settings, os.environ, parallel.data_parallel_index)
    except ConfigError as e:
        raise ConfigError(f"in {_PLACE}, {e}") from e


def _from_old_variable(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not MIN_DURATION_S <= value <= MAX_DURATION_S:
        raise ConfigError(
            f"{OLD_VARIABLE} is {text!r}: it must be a number of seconds from {MIN_DURATION_S:g} to "
            f'{MAX_DURATION_S:g}; better, unset it and write {{"{_DURATION}": {DEFAULT_DURATION_S:g}}} into {_PLACE}'
        )
    return value


def refuse_unguaranteed(vllm_config: "VllmConfig") -> None:
    """Raises `UnsupportedEngine` where stock vLLM would run and kvlease could not keep its promises."""
    transfer, parallel, model = vllm_config.kv_transfer_config, vllm_config.parallel_config, vllm_config.model_config
    if transfer.get_from_extra_config("bidirectional_kv_xfer", False):
        raise UnsupportedEngine(
            "bidirectional_kv_xfer is true: a prefill engine that reads back from a decode engine is not fenced by "
            f"this version of kvlease. Leave it out, or {_STOCK}."
        )
    if getattr(model, "enable_sleep_mode", False):
        raise UnsupportedEngine(
            "sleep mode is enabled: an engine that wakes up has its KV cache in other memory than it is registered "
            f"with, and the fence does not tell. Leave --enable-sleep-mode out, or {_STOCK}."
        )
    if getattr(parallel, "enable_fault_tolerance", False):
        raise UnsupportedEngine(
            "fault tolerance is enabled: a step that fails in a worker takes with it what its fence was to clear, and "
            f"vLLM goes on without. Leave --enable-fault-tolerance out, or {_STOCK}."
        )
    if _returns_routed_experts(vllm_config):
        raise UnsupportedEngine(
            "--enable-return-routed-experts is set: vLLM does not hand over which experts a prefill was routed to, and "
            "refuses it with NIXL. Leave it out."
        )
    for name in ("pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size"):
        if (size := getattr(parallel, name, 1)) > 1:
            raise UnsupportedEngine(
                f"{name} is {size}: kvlease is built and tested for tensor and data parallelism only. Set it to 1, or "
                f"{_STOCK}."
            )


def _returns_routed_experts(vllm_config: "VllmConfig") -> bool:
    # In 0.30 this is a setting of the model, since 0.31 it has a configuration of its own.
    holders = (vllm_config.model_config, getattr(vllm_config, "aux_output_config", None))
    return any(getattr(holder, "enable_return_routed_experts", False) for holder in holders)
