"""The processes that are started, decided from what is wanted and from what the machine has. Nothing is started here.

`kvlease up` starts this, and `kvlease up --print` prints it: in every form the same commands and the same environment.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kvlease.admin.settings import LISTEN
from kvlease.errors import KvLeaseError
from kvlease.up import arguments as vllm_arguments
from kvlease.up.engines import (
    HOST,
    SERVE,
    UNLOGGED,
    Role,
    cpu_environment,
    offline_environment,
    scratch_environment,
    side_channel,
    tiny_arguments,
    transfer_config,
)
from kvlease.up.machine import VISIBLE, Host
from kvlease.up.wanted import ENGINE_ROLES, EngineRole, Wanted

LaunchRole = Literal["prefill", "decode", "router"]

TINY = "tiny"
"""The name under which the tiny model is served."""
TINY_BLOCKS = 1024
TINY_SEQUENCES = 64
TINY_TOKENS = 4096
TINY_MEMORY_GB = "1"
HTTP_FROM, SIDE_CHANNEL_FROM, LISTEN_FROM = 8100, 5600, 9410
"""The first ports of engines: HTTP, vLLM's handshakes, kvlease's listener."""
LAST_PORT = 65535
MEMORY_SHARE = 0.9
"""The part of a device's memory that vLLM takes unless told otherwise; engines that share a device divide it."""
PLUGINS = "VLLM_PLUGINS"
PLUGIN = "kvlease"
_LOOPBACKS = {"0.0.0.0": HOST, "::": "::1"}
"""The addresses at which a listener on all addresses of a family is reached."""
KV_ROLES: Mapping[EngineRole, Role] = {"prefill": "kv_producer", "decode": "kv_consumer"}


class NotStartable(KvLeaseError, ValueError):
    """Engines that were wanted cannot be started on this machine. The message says why, and what to change."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One process: what is executed, in which environment, and where it then listens."""

    name: str
    role: LaunchRole
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """The environment beyond the starting process's own."""
    url: str
    ready: str = "/health"
    """The path that answers 200 once it serves."""
    listener: str | None = None
    """The URL of kvlease's own listener in an engine; None for the router and for stock engines."""
    cores: tuple[int, ...] = ()
    """The cores that it is pinned to; none: it runs where it may."""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """All processes: the engines, then the router."""

    launches: tuple[Launch, ...]
    model: str
    """The name of the model in requests."""
    model_directory: Path | None
    """The place of the model, where that is a directory of this machine."""
    scratch: Path
    """The directory that has one for each engine's sockets and temporary files."""
    starts_at_once: int
    """The number of engines that start at the same time."""

    @property
    def router(self) -> Launch:
        """The router."""
        return self.launches[-1]

    @property
    def engines(self) -> tuple[Launch, ...]:
        """The engines, prefill first."""
        return self.launches[:-1]

    def urls(self, role: EngineRole) -> list[str]:
        """Returns the URLs of the engines of a role."""
        return [launch.url for launch in self.engines if launch.role == role]


def decide(
    wanted: Wanted,
    host: Host,
    tiny_model: Path,
    scratch: Path,
    is_free: Callable[[int], bool] = lambda _: True,
) -> Deployment:
    """Decides what is started. Raises `NotStartable`.

    `tiny_model`: the directory of the model that kvlease makes, which need not be there yet. `is_free` tells whether
    nobody listens at a port: engines take the next ones that are.
    """
    engines = list(_engines(wanted, host, tiny_model, scratch, is_free))
    return Deployment(
        launches=(*engines, _router(wanted, host, engines)),
        model=_served_name(wanted),
        model_directory=_directory(wanted, tiny_model),
        scratch=scratch,
        starts_at_once=len(host.cores) if host.on_cpu else len(engines),
    )


def _engines(
    wanted: Wanted, host: Host, tiny_model: Path, scratch: Path, is_free: Callable[[int], bool]
) -> Iterator[Launch]:
    names = [(role, number) for role in ENGINE_ROLES for number in range(wanted.count(role))]
    devices = _split_devices(wanted, host)
    cores = _split_cores(host, len(names))
    ports = _Ports(is_free, taken={wanted.port})
    for (role, number), own_devices, own_cores in zip(names, devices, cores, strict=True):
        name = f"{role}-{number}"
        yield _engine(wanted, host, role, name, tiny_model, scratch / name, ports, own_devices, own_cores)


def _engine(
    wanted: Wanted,
    host: Host,
    role: EngineRole,
    name: str,
    tiny_model: Path,
    scratch: Path,
    ports: "_Ports",
    devices: tuple[str, ...],
    cores: tuple[int, ...],
) -> Launch:
    given = wanted.arguments(role)
    ranks = _number(given, vllm_arguments.DATA)
    http, handshakes = ports.take(HTTP_FROM), ports.take(SIDE_CHANNEL_FROM, ranks)
    leased = wanted.connector == "kvlease"
    listen = f"{HOST}:{ports.take(LISTEN_FROM, ranks)}" if leased else None
    config = transfer_config(
        wanted.connector,
        KV_ROLES[role],
        buffer_device="cpu" if host.on_cpu else None,
        extra_config={**({LISTEN: listen} if listen else {}), **wanted.extra_config},
    )
    command = (
        *_program(wanted, host, tiny_model),
        *("--host", HOST, "--port", str(http)),
        *(tiny_arguments(TINY_BLOCKS, TINY_SEQUENCES, TINY_TOKENS) if wanted.model is None else ()),
        *_memory_share(wanted, host, given),
        *UNLOGGED,
        *("--kv-transfer-config", json.dumps(config)),
        *given,
    )
    environment = {
        **_device_environment(wanted, devices, cores, given),
        **({PLUGINS: _plugins(host.plugins)} if leased else {}),
        **(offline_environment() if wanted.model is None else {}),
        **side_channel(HOST, handshakes),
        **scratch_environment(scratch),
    }
    return Launch(
        name=name,
        role=role,
        command=command,
        environment=environment,
        url=f"http://{HOST}:{http}",
        listener=f"http://{listen}" if listen else None,
        cores=cores,
        devices=devices,
    )


def _router(wanted: Wanted, host: Host, engines: Sequence[Launch]) -> Launch:
    urls = {role: [engine.url for engine in engines if engine.role == role] for role in ENGINE_ROLES}
    command = (
        *(host.python, "-m", "kvlease.cli", "router"),
        *("--host", wanted.host, "--port", str(wanted.port)),
        *("--prefill", *urls["prefill"]),
        *("--decode", *urls["decode"]),
        *("--drain-timeout", str(wanted.drain_s)),
        *wanted.router_arguments,
    )
    reached = _LOOPBACKS.get(wanted.host, wanted.host)
    url = f"http://[{reached}]:{wanted.port}" if ":" in reached else f"http://{reached}:{wanted.port}"
    return Launch(name="router", role="router", command=command, environment={}, url=url, ready="/ready")


def _program(wanted: Wanted, host: Host, tiny_model: Path) -> list[str]:
    model = str(tiny_model) if wanted.model is None else wanted.model
    named = ["--served-model-name", TINY] if wanted.model is None else []
    if host.on_cpu:
        return [host.python, "-m", SERVE, "--model", model, *named]
    return [host.vllm, "serve", model, *named]


def _served_name(wanted: Wanted) -> str:
    given = vllm_arguments.value_of(wanted.arguments("decode"), vllm_arguments.SERVED_NAME)
    return given or wanted.model or TINY


def _directory(wanted: Wanted, tiny_model: Path) -> Path | None:
    if wanted.model is None:
        return tiny_model
    return Path(wanted.model) if is_path(wanted.model) else None


def is_path(model: str) -> bool:
    """Tells whether a model is given by a directory; a name such as "owner/model" is one that vLLM fetches."""
    return model.startswith(("/", "./", "../", "~"))


# -- devices, cores, memory ----------------------------------------------------------------------------------------


def _split_devices(wanted: Wanted, host: Host) -> list[tuple[str, ...]]:
    needs = {role: _devices_of(wanted.arguments(role)) for role in ENGINE_ROLES}
    sizes = [needs[role] for role in ENGINE_ROLES for _ in range(wanted.count(role))]
    if host.on_cpu:
        return [() for _ in sizes]
    if sum(sizes) <= len(host.devices):
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return [host.devices[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    if not _shares(wanted) or max(sizes) > len(host.devices):
        raise NotStartable(
            f"{wanted.prefill} prefill and {wanted.decode} decode engines need {sum(sizes)} devices "
            f"({needs['prefill']} and {needs['decode']} each), and there are {len(host.devices)} "
            f"({', '.join(host.devices)}): start fewer engines, give them a smaller --tensor-parallel-size, or let "
            f"them share devices with --share-devices"
        )
    return [_in_turn(host.devices, sum(sizes[:number]), size) for number, size in enumerate(sizes)]


def _in_turn(devices: Sequence[str], start: int, size: int) -> tuple[str, ...]:
    return tuple(devices[(start + offset) % len(devices)] for offset in range(size))


def _shares(wanted: Wanted) -> bool:
    # The tiny model fits many times, and whoever tries it has often one device.
    return wanted.share_devices or wanted.model is None


def _memory_share(wanted: Wanted, host: Host, given: Sequence[str]) -> list[str]:
    """The argument by which engines on one device leave each other memory."""
    if host.on_cpu or vllm_arguments.value_of(given, vllm_arguments.MEMORY_SHARE):
        return []
    sizes = sum(_devices_of(wanted.arguments(role)) * wanted.count(role) for role in ENGINE_ROLES)
    sharing = -(-sizes // len(host.devices))
    return [] if sharing == 1 else [vllm_arguments.MEMORY_SHARE[0], f"{int(100 * MEMORY_SHARE / sharing) / 100:.2f}"]


def _split_cores(host: Host, engines: int) -> list[tuple[int, ...]]:
    """Cores of its own for each engine on the CPU, where there are enough: an engine steps without pause while it holds
    blocks, and would starve the others."""
    each = len(host.cores) // engines
    if not host.on_cpu or each == 0:
        return [() for _ in range(engines)]
    return [host.cores[number * each : (number + 1) * each] for number in range(engines)]


def _device_environment(
    wanted: Wanted, devices: tuple[str, ...], cores: tuple[int, ...], given: Sequence[str]
) -> dict[str, str]:
    if devices:
        return {VISIBLE: ",".join(devices)}
    if wanted.model is None:
        return {"VLLM_CPU_KVCACHE_SPACE": TINY_MEMORY_GB, **cpu_environment(threads=1)}
    return cpu_environment(threads=max(1, len(cores) // _devices_of(given)))


def _plugins(given: str | None) -> str:
    """The value of VLLM_PLUGINS with kvlease in it, without which vLLM does not add its routes."""
    names = [name for name in (given or "").split(",") if name.strip()]
    return ",".join(names if PLUGIN in names else [*names, PLUGIN])


def _devices_of(given: Sequence[str]) -> int:
    try:
        return vllm_arguments.devices_of(given)
    except ValueError as error:
        raise NotStartable(str(error)) from None


def _number(given: Sequence[str], names: Sequence[str]) -> int:
    try:
        return vllm_arguments.number_of(given, names)
    except ValueError as error:
        raise NotStartable(str(error)) from None


class _Ports:
    """The ports of one deployment."""

    def __init__(self, is_free: Callable[[int], bool], taken: set[int]) -> None:
        self._is_free, self._taken = is_free, taken

    def take(self, first: int, count: int = 1) -> int:
        """Returns the first of `count` ports in a row, from `first` on, that nobody has."""
        for port in range(first, LAST_PORT + 2 - count):
            row = range(port, port + count)
            if all(each not in self._taken and self._is_free(each) for each in row):
                self._taken.update(row)
                return port
        raise NotStartable(f"there are no {count} free ports in a row from {first} on: end what listens there")
