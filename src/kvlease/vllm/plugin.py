"""The names under which vLLM finds the connector (R37), and the entry point `vllm.general_plugins`.

With kvlease installed, `"kv_connector": "LeasedNixlConnector"` is enough. Frameworks around vLLM, and vLLM itself in
some places, look for "NixlConnector": under that name kvlease is found with `"kv_connector_module_path":
"kvlease.vllm"`, or, with `KVLEASE_REPLACES_NIXL=1`, without any change of a configuration.
"""

import functools
import os
from typing import Any

from kvlease.errors import ConfigError

NAME = "LeasedNixlConnector"
STOCK_NAMES = ("NixlConnector", "NixlPullConnector")
"""vLLM's connectors that kvlease takes the place of: both are the pull connector."""
REPLACES = "KVLEASE_REPLACES_NIXL"


def replaces_stock() -> bool:
    """Whether kvlease stands in for vLLM's own connector under that one's names. Raises `ConfigError`."""
    value = os.environ.get(REPLACES, "")
    if value not in ("", "0", "1"):
        raise ConfigError(f"{REPLACES} is {value!r}, it must be 1 (kvlease takes NixlConnector's place) or 0")
    return value == "1"


def register() -> None:
    """Make the connector known to vLLM. Raises `ConfigError`.

    vLLM calls it in each of its processes, some of them more than once; where its plugins are switched off, the
    connector's own module does (vllm 57683).
    """
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    if NAME not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector(NAME, "kvlease.vllm", NAME)
    if replaces_stock():
        for name in STOCK_NAMES:
            KVConnectorFactory._registry[name] = KVConnectorFactory._registry[NAME]
    _answer_to_stock_names()


def _answer_to_stock_names() -> None:
    """vLLM decides by name which layout Mamba's state has on a CPU, and what cannot be combined with NIXL.

    All these places ask `has_connector`, and kvlease gets the answer that the connector gets which it stands in for.
    """
    from vllm.config import KVTransferConfig

    honest = KVTransferConfig.has_connector
    if getattr(honest, "answers_for", None) == NAME:
        return

    @functools.wraps(honest)
    def has_connector(self: Any, connector_name: str) -> bool:
        if connector_name in STOCK_NAMES and honest(self, NAME):
            return True
        asked: bool = honest(self, connector_name)
        return asked

    has_connector.answers_for = NAME  # type: ignore[attr-defined]
    KVTransferConfig.has_connector = has_connector
