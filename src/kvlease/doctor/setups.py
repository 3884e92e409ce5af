"""The configuration of one engine, as somebody wrote it: what is needed of it for the checks, and no more."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlease.vllm.plugin import MODULE, NAME, REPLACES, STOCK_NAMES

HOST_VARIABLE = "VLLM_NIXL_SIDE_CHANNEL_HOST"
PORT_VARIABLE = "VLLM_NIXL_SIDE_CHANNEL_PORT"
PLUGINS_VARIABLE = "VLLM_PLUGINS"
DEFAULT_HOST = "localhost"
DEFAULT_PORT = 5600
LATER = "$("
"""The beginning of a value that is known only where the engine runs, such as $(status.podIP)."""
CONFIG = "kv-transfer-config"
_SHORT = {
    "-dp": "data-parallel-size",
    "-tp": "tensor-parallel-size",
    "-pp": "pipeline-parallel-size",
    "-dcp": "decode-context-parallel-size",
    "-pcp": "prefill-context-parallel-size",
}


@dataclass(frozen=True, slots=True)
class PodSettings:
    """The settings of a Kubernetes pod that decide how its engine stops, and who is beside it."""

    pre_stop: str | None
    """The hook's command, or "GET" and its path; None where there is none."""
    grace_s: float
    network: str
    """The name of the network that it shares: another one for each pod, "host" with hostNetwork."""


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """The configuration of one engine."""

    name: str
    """Its place: the argument, or the file and what is in it."""
    transfer: Mapping[str, Any] = field(default_factory=dict)
    """The value of --kv-transfer-config."""
    arguments: Mapping[str, str] | None = None
    """The other arguments by name, without dashes in front; "" for a flag. None: the command line is not known."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Its environment, as far as it is known."""
    pod: PodSettings | None = None
    framework: str = "vLLM"
    """The program that starts it: "vLLM", "Dynamo" or "Ray"."""
    unreadable: str | None = None
    """The fault of the value of --kv-transfer-config, if it cannot be read."""

    @property
    def connector(self) -> Mapping[str, Any]:
        """The settings of kvlease's connector: of a MultiConnector the child's; of another one its own."""
        children = [child for child in _children(self.transfer) if self.is_kvlease(child)]
        return children[0] if children else self.transfer

    @property
    def leased(self) -> bool:
        """Tells whether its connector is kvlease's."""
        return self.is_kvlease(self.connector)

    def is_kvlease(self, connector: Mapping[str, Any]) -> bool:
        """Tells whether these settings of a connector name kvlease's (docs/operate/install.md, its three names)."""
        name, module = connector.get("kv_connector"), connector.get("kv_connector_module_path")
        if module is not None:
            return module == MODULE and name in (NAME, *STOCK_NAMES)
        return name == NAME or (name in STOCK_NAMES and self.variables.get(REPLACES) == "1")

    @property
    def extra(self) -> Mapping[str, Any]:
        """The connector's own settings."""
        extra = self.connector.get("kv_connector_extra_config")
        return extra if isinstance(extra, Mapping) else {}

    @property
    def produces(self) -> bool:
        """Tells whether it is a prefill engine."""
        return self.transfer.get("kv_role") in ("kv_producer", "kv_both")

    @property
    def consumes(self) -> bool:
        """Tells whether it is a decode engine."""
        return self.transfer.get("kv_role") in ("kv_consumer", "kv_both")

    @property
    def side_channel_ports(self) -> range:
        """The ports of its side channel: one for each data-parallel rank, from the first on. Empty: not known."""
        ranks = self.number("data-parallel-size", 1)
        try:
            first = int(self.variables.get(PORT_VARIABLE, DEFAULT_PORT))
        except ValueError:
            return range(0)
        return range(first, first + max(1, int(ranks)))

    @property
    def side_channel_host(self) -> str | None:
        """The host of its side channel; None where it is decided elsewhere."""
        host = self.variables.get(HOST_VARIABLE, DEFAULT_HOST)
        return None if host.startswith("$") else host

    @property
    def network(self) -> str:
        """The name of the network in which its ports are: two engines in one network cannot have the same ones."""
        return self.pod.network if self.pod is not None else self.side_channel_host or ""

    def number(self, argument: str, default: float) -> float:
        """Returns the number that an argument has, or its default, also where it is no number."""
        try:
            return float((self.arguments or {}).get(argument, default))
        except ValueError:
            return default


def _children(transfer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    extra = transfer.get("kv_connector_extra_config")
    children = extra.get("connectors") if isinstance(extra, Mapping) else None
    yield from (child for child in (children if isinstance(children, list) else ()) if isinstance(child, Mapping))


def arguments_of(words: Sequence[str]) -> dict[str, str]:
    """Returns the arguments in a command line by name; a name is written with dashes, and long. Others are left out."""
    found: dict[str, str] = {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if not name.startswith("--") and name not in _SHORT:
            continue
        # Only the first part of --kv-transfer-config.kv_role has dashes.
        head, dot, rest = name.lstrip("-").partition(".")
        key = _SHORT.get(name, head.replace("_", "-") + dot + rest)
        found[key] = value if equals else "" if after.startswith("-") else after
    return found
