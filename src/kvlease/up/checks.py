"""Refusals before anything is started: each message says what is wrong, and what to do."""

from collections.abc import Callable, Mapping
from pathlib import Path

from kvlease.admin.settings import LISTEN
from kvlease.errors import ConfigError
from kvlease.events.settings import KEYS as EVENT_KEYS
from kvlease.events.settings import event_settings
from kvlease.protocol.config import resolve
from kvlease.up import arguments as vllm_arguments
from kvlease.up.machine import Host
from kvlease.up.plan import NotStartable, is_path
from kvlease.up.wanted import ENGINE_ROLES, Wanted

CONFIGURATION = "config.json"
"""The file that every model's directory has."""


def check_wanted(wanted: Wanted) -> None:
    """Raises `NotStartable` for what cannot be started on any machine."""
    for role in ENGINE_ROLES:
        owned = vllm_arguments.owned(wanted.arguments(role))
        if owned:
            raise NotStartable(f"{owned} is not to be given to engines: {vllm_arguments.OWN[owned]}")
    owned = vllm_arguments.owned(wanted.router_arguments, vllm_arguments.ROUTERS_OWN)
    if owned:
        raise NotStartable(f"{owned} is not to be given in --router-args: give {owned} to `kvlease up` itself")
    if LISTEN in wanted.extra_config:
        raise NotStartable(f"{LISTEN} is not to be given in --extra-config: every engine gets a port of its own")
    if wanted.connector == "kvlease":
        _check_settings(wanted.extra_config)
    if wanted.model is not None and is_path(wanted.model):
        _check_directory(Path(wanted.model).expanduser())


def _check_settings(extra_config: Mapping[str, object]) -> None:
    """Engines would refuse them as well, half a minute later."""
    try:
        event_settings(extra_config)
        resolve(extra_config, EVENT_KEYS)
    except ConfigError as error:
        raise NotStartable(f"in --extra-config, {error}") from None


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise NotStartable(
            f"--model {directory} is no directory here; give the directory of a model, or a name such as "
            f"Qwen/Qwen3-0.6B, which vLLM fetches"
        )
    if not (directory / CONFIGURATION).is_file():
        raise NotStartable(f"--model {directory} has no {CONFIGURATION}: it is no directory of a model that vLLM reads")


def check_machine(
    wanted: Wanted,
    host: Host,
    is_installed: Callable[[str], bool],
    is_free: Callable[[str, int], bool],
) -> None:
    """Raises `NotStartable` for what this machine lacks. `is_free` tells whether nobody listens at an address."""
    if not is_installed("vllm"):
        raise NotStartable(
            f"vLLM is not installed for {host.python}: `pip install vllm` brings it for GPUs; in a checkout of kvlease "
            f"`make up` brings a build for the CPU"
        )
    if not is_installed("nixl") and not is_installed("rixl"):
        raise NotStartable(
            f"NIXL, over which vLLM hands KV blocks on, is not installed for {host.python}: `pip install nixl`"
        )
    if host.on_cpu and host.built_for_cpu is False:
        raise NotStartable(
            "no NVIDIA device was found, and the vLLM here is not built for the CPU: install one that is (in a "
            "checkout of kvlease `make up` does), or name the devices with --devices"
        )
    if not host.on_cpu and host.built_for_cpu:
        raise NotStartable(
            f"the vLLM here is built for the CPU, and engines would have NVIDIA devices ({', '.join(host.devices)}): "
            f"give --devices none, or install the vLLM for them"
        )
    if not host.on_cpu and not Path(host.vllm).is_file():
        raise NotStartable(f"the command {host.vllm} is not there, though vLLM can be imported: install vLLM again")
    if not is_free(wanted.host, wanted.port):
        raise NotStartable(
            f"port {wanted.port} of {wanted.host} is in use, or is not this machine's: give another --port or --host, "
            f"or end what listens there"
        )
