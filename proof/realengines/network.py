"""A network of namespaces on this machine, in which engines can be cut off from each other.

Each engine gets a namespace with one interface; all of them meet at a bridge in a namespace of its own. Nothing of the
machine's own network is touched, or reached from in there: HTTP goes through Unix sockets, which namespaces do not
divide. Everything bears this process's id in its name.

The commands are Debian's iproute2. It is needed in any case, to start an engine in a namespace so that it sees the
namespace's own `/sys`, from which UCX learns of its interfaces; a Netlink library would do the rest a second time.

Packets are dropped by a filter of four classic BPF instructions in the kernel's traffic control: it needs neither netem
nor nftables, which not every kernel and machine has, and one thing serves for loss and for a cut in either direction.
"""

import atexit
import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from kvlease.errors import KvLeaseError

Direction = Literal["to", "from"]
"""Packets on their way to an engine, or from it."""
DIRECTIONS: tuple[Direction, ...] = ("to", "from")

INTERFACE = "eth0"
NAMESPACES = Path("/run/netns")
_PREFIX = "kvlease"
_SUBNET = "10.77.0"
_BRIDGE = "sw0"
_PASS, _DROP = 0xFFFFFFFF, 2
"""The values that a filter returns: go on with the next one (there is none), and TC_ACT_SHOT."""
_RANDOM = 0xFFFFF038
"""The address from which classic BPF loads a random number: SKF_AD_OFF + SKF_AD_RANDOM."""
_BURST_BYTES = 16 * 1024
_QUEUE_MS = 2000
_COMMAND_TIMEOUT_S = 20.0

_made: set[str] = set()
_numbers = itertools.count(1)


class NetworkUnavailable(KvLeaseError, RuntimeError):
    """Namespaces cannot be used here. The message says what was tried and what the system answered."""


@dataclass(frozen=True)
class EngineAddress:
    """The place where an engine of a network runs, for its `EngineSpec`."""

    host: str
    launcher: tuple[str, ...]
    environment: Mapping[str, str]


class Network:
    """A namespace for each of the names, and what happens to their links. A context manager: it is removed when left.

    Entering raises NetworkUnavailable where this machine does not allow it. Every fault replaces the last one in its
    direction.
    """

    def __init__(self, names: Sequence[str]) -> None:
        stem = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._switch = f"{stem}-switch"
        self._namespaces = {name: f"{stem}-{name}" for name in names}
        self._addresses = {name: f"{_SUBNET}.{number}" for number, name in enumerate(names, start=1)}

    def __enter__(self) -> Self:
        _check_commands()
        try:
            self._make()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def place(self, name: str) -> EngineAddress:
        """The place where this engine is to run."""
        return EngineAddress(
            host=self._addresses[name],
            launcher=("ip", "netns", "exec", self._namespaces[name]),
            # Shared memory would pass any cut: UCX does not ask for namespaces.
            environment={"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": INTERFACE},
        )

    def lose(self, name: str, share: float, directions: Sequence[Direction] = DIRECTIONS) -> None:
        """Drops this share of the packets, drawn at random; 1 cuts the link."""
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: which packets are lost is a number over 0, up to 1 for all of them")
        for direction in directions:
            self._stop_losing(name, direction)
            namespace, device = self._receiving_end(name, direction)
            _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "clsact")
            bytecode = ("bpf", "direct-action", "bytecode", _drop(share))
            _run("tc", "-n", namespace, "filter", "add", "dev", device, "ingress", *bytecode)

    def slow(self, name: str, kbit_per_s: int) -> None:
        """Lets no more than so much through on the way to this engine; what waits for too long is lost."""
        self._stop_slowing(name)
        shape = ("tbf", "rate", f"{kbit_per_s}kbit", "burst", str(_BURST_BYTES), "latency", f"{_QUEUE_MS}ms")
        _run("tc", "-n", self._switch, "qdisc", "add", "dev", _port(name), "root", *shape)

    def heal(self, name: str) -> None:
        """Ends all faults of this engine's link."""
        for direction in DIRECTIONS:
            self._stop_losing(name, direction)
        self._stop_slowing(name)

    def remove(self) -> None:
        """Removes what was made. Engines in there have to be ended before: they would keep it alive, without a name."""
        for namespace in (*self._namespaces.values(), self._switch):
            _remove(namespace)

    @property
    def namespaces(self) -> list[str]:
        """The names of all namespaces, as `ip netns` lists them."""
        return [*self._namespaces.values(), self._switch]

    def _make(self) -> None:
        for namespace in self.namespaces:
            _run("ip", "netns", "add", namespace)
            _made.add(namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", self._switch, "link", "add", "name", _BRIDGE, "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", _BRIDGE, "up")
        for name, namespace in self._namespaces.items():
            veth = ("type", "veth", "peer", "name", INTERFACE, "netns", namespace)
            _run("ip", "-n", self._switch, "link", "add", "name", _port(name), *veth)
            _run("ip", "-n", self._switch, "link", "set", _port(name), "master", _BRIDGE, "up")
            # An address of IPv6 would come by itself, and be one more that UCX could choose.
            _run("ip", "-n", namespace, "link", "set", INTERFACE, "addrgenmode", "none", "up")
            _run("ip", "-n", namespace, "address", "add", f"{self._addresses[name]}/24", "dev", INTERFACE)
        for name in self._namespaces:
            # A fault that cannot be made here is to fail now, and not in the middle of the play.
            self.lose(name, 1.0)
            self.slow(name, 1000)
            self.heal(name)

    def _receiving_end(self, name: str, direction: Direction) -> tuple[str, str]:
        """The namespace and the interface where the packets of this direction arrive."""
        return (self._namespaces[name], INTERFACE) if direction == "to" else (self._switch, _port(name))

    def _stop_losing(self, name: str, direction: Direction) -> None:
        namespace, device = self._receiving_end(name, direction)
        if "clsact" in _run("tc", "-n", namespace, "qdisc", "show", "dev", device):
            _run("tc", "-n", namespace, "qdisc", "del", "dev", device, "clsact")

    def _stop_slowing(self, name: str) -> None:
        if "tbf" in _run("tc", "-n", self._switch, "qdisc", "show", "dev", _port(name)):
            _run("tc", "-n", self._switch, "qdisc", "del", "dev", _port(name), "root")


def _port(name: str) -> str:
    return f"port-{name}"


def _drop(share: float) -> str:
    """Classic BPF, as `tc` takes it: how many instructions, then of each its code, jumps (if true, if false), operand.

    They load a random number, and jump over the pass if it is below the threshold.
    """
    if share == 1:
        return f"1,6 0 0 {_DROP}"
    threshold = round(share * 2**32)
    return f"4,32 0 0 {_RANDOM},53 0 1 {threshold},6 0 0 {_PASS},6 0 0 {_DROP}"


def _check_commands() -> None:
    # This comes first: users other than root may not search /usr/sbin, where Debian keeps tc.
    if os.geteuid() != 0:
        raise NetworkUnavailable("making network namespaces takes root")
    missing = [command for command in ("ip", "tc") if shutil.which(command) is None]
    if missing:
        raise NetworkUnavailable(f"{' and '.join(missing)} not found; Debian's package iproute2 has it")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NetworkUnavailable(f"`{' '.join(command)}` took longer than {_COMMAND_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise NetworkUnavailable(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


@atexit.register
def _remove_what_was_left() -> None:
    for namespace in list(_made):
        _remove(namespace)


def _remove(namespace: str) -> None:
    if namespace in _made:
        _made.discard(namespace)
        _run("ip", "netns", "delete", namespace)
