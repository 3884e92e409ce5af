"""The checks on this machine: what is installed, and the environment."""

import re
from collections.abc import Iterator

from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.machine import NOT_INSTALLED, Machine
from kvlease.doctor.setups import PLUGINS_VARIABLE
from kvlease.doctor.variable_checks import PLUGIN, plugins
from kvlease.vllm.surface import TESTED, TRY_ANYWAY

SHOWN = 5
"""The most missing parts of vLLM that are listed."""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


@error(
    "vllm-version",
    "A vLLM that kvlease is not tested with",
    "kvlease refuses it: what it stands on may have changed in there.",
)
def vllm_version(machine: Machine) -> Iterator[Symptom]:
    version = machine.versions["vllm"]
    if version != NOT_INSTALLED and _minor(version) not in TESTED and machine.variables.get(TRY_ANYWAY) != "1":
        yield Symptom(f"vLLM {version}", f"install vLLM {TESTED[-1]}.x; tested are {', '.join(TESTED)}")


@warning(
    "vllm-tried-anyway",
    f"{TRY_ANYWAY}=1 with a vLLM that kvlease is not tested with",
    "Nobody has shown that the fence holds there.",
)
def vllm_tried_anyway(machine: Machine) -> Iterator[Symptom]:
    version = machine.versions["vllm"]
    if version != NOT_INSTALLED and _minor(version) not in TESTED and machine.variables.get(TRY_ANYWAY) == "1":
        yield Symptom(f"vLLM {version} and {TRY_ANYWAY}=1", "run kvlease's tests with it (docs/operate/upgrade.md)")


@error(
    "vllm-surface",
    "A vLLM without something that kvlease calls, overrides or reads",
    "The engine does not start: kvlease compares its list with vLLM first.",
)
def vllm_surface(machine: Machine) -> Iterator[Symptom]:
    for lack in machine.lacks[:SHOWN]:
        yield Symptom(f"{lack.kind}: {lack.what}", f"install vLLM {TESTED[-1]}.x, unchanged")
    if len(machine.lacks) > SHOWN:
        yield Symptom(f"and {len(machine.lacks) - SHOWN} more", f"install vLLM {TESTED[-1]}.x, unchanged")


@error(
    "no-nixl",
    "vLLM without NIXL",
    "vLLM's connector and kvlease's read KV caches through it, and do not start without.",
)
def no_nixl(machine: Machine) -> Iterator[Symptom]:
    if machine.versions["vllm"] != NOT_INSTALLED and machine.versions["nixl"] == NOT_INSTALLED:
        yield Symptom("nixl is not installed", "pip install nixl, in the version that your vLLM asks for")


@error(
    "no-ucx",
    "A NIXL without its backend UCX",
    "vLLM asks NIXL for UCX unless kv_connector_extra_config names other backends, and agents cannot be made without.",
)
def no_ucx(machine: Machine) -> Iterator[Symptom]:
    if machine.backends is not None and "UCX" not in machine.backends:
        yield Symptom(f"NIXL's backends are {', '.join(machine.backends)}", "pip install --force-reinstall nixl")


@warning(
    "package-versions",
    "A torch or NIXL that the installed vLLM does not ask for",
    "vLLM is built for the versions that it asks for, and may not start with others.",
)
def package_versions(machine: Machine) -> Iterator[Symptom]:
    for each in machine.unmet:
        yield Symptom(each, "install vLLM anew: `pip install vllm` brings what it asks for")


@warning(
    "no-plugin",
    "A kvlease that is not registered as vLLM's plugin",
    'vLLM does not know "LeasedNixlConnector" by name alone, and KVLEASE_REPLACES_NIXL does nothing.',
)
def no_plugin(machine: Machine) -> Iterator[Symptom]:
    if machine.versions["vllm"] == NOT_INSTALLED:
        return
    if PLUGIN not in machine.plugins.get("vllm.general_plugins", ()):
        yield Symptom(
            "no entry point kvlease in vllm.general_plugins",
            'install kvlease with pip where vLLM runs; or write "kv_connector_module_path": "kvlease.vllm"',
        )


@warning(
    "plugins-switched-off",
    f"Installed plugins of vLLM that {PLUGINS_VARIABLE} leaves out",
    "Where the variable is set, vLLM loads the named ones alone, whoever needs the others.",
)
def plugins_switched_off(machine: Machine) -> Iterator[Symptom]:
    allowed = plugins(machine.variables)
    if allowed is None:
        return
    installed = machine.plugins.get("vllm.general_plugins", ())
    if left_out := [name for name in installed if name not in allowed]:
        yield Symptom(
            f"{PLUGINS_VARIABLE}={','.join(allowed)} leaves out {', '.join(left_out)}",
            f"set {PLUGINS_VARIABLE}={','.join([*allowed, *left_out])}",
        )


@error(
    "ucx-net-devices",
    "UCX_NET_DEVICES with a device that this machine does not have",
    "UCX finds no transport, and NIXL cannot make its agents, or reads by a slow way.",
)
def ucx_net_devices(machine: Machine) -> Iterator[Symptom]:
    value = machine.variables.get("UCX_NET_DEVICES", "")
    named = [name.strip().partition(":")[0] for name in value.lstrip("^").split(",") if name.strip()]
    exact = [name for name in named if name != "all" and not re.search(r"[*?\[]", name)]
    if missing := [name for name in exact if name not in machine.interfaces]:
        there = ", ".join(sorted(machine.interfaces)) or "none"
        yield Symptom(f"UCX_NET_DEVICES={value}: no {', '.join(missing)}", f"name some of {there}; or unset it")


@warning(
    "port-taken",
    "A port that a given command line needs, and that is taken on this machine",
    "An engine that starts here with it ends at once, unless it is the one that has the port.",
)
def port_taken(machine: Machine) -> Iterator[Symptom]:
    for port, place in machine.taken.items():
        yield Symptom(f"port {port} is taken", f"`ss -ltnp 'sport = :{port}'` says who has it; choose another", place)


CHECKS: tuple[Check[Machine], ...] = (
    vllm_version,
    vllm_tried_anyway,
    vllm_surface,
    no_nixl,
    no_ucx,
    package_versions,
    no_plugin,
    plugins_switched_off,
    ucx_net_devices,
    port_taken,
)
