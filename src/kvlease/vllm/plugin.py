"""The names under which vLLM finds the connector (R37), and the entry point `vllm.general_plugins`.

With kvlease installed, `"kv_connector": "LeasedNixlConnector"` is enough. Frameworks around vLLM, and vLLM itself in
some places, look for "NixlConnector": under that name kvlease is found with `"kv_connector_module_path":
"kvlease.vllm"`, or, with `KVLEASE_REPLACES_NIXL=1`, without any change of a configuration.
"""

import functools
import os
from typing import Any

from kvlease.errors import ConfigError, UnsupportedEngine

NAME = "LeasedNixlConnector"
MODULE = "kvlease.vllm"
STOCK_NAMES = ("NixlConnector", "NixlPullConnector")
"""vLLM's connectors that kvlease takes the place of: both are the pull connector."""
REPLACES = "KVLEASE_REPLACES_NIXL"
STATE_LAYOUT = "VLLM_SSM_CONV_STATE_LAYOUT"


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
        KVConnectorFactory.register_connector(NAME, MODULE, NAME)
    if replaces_stock():
        for name in STOCK_NAMES:
            KVConnectorFactory._registry[name] = KVConnectorFactory._registry[NAME]
    _let_vllm_read_the_stock_name()


def _let_vllm_read_the_stock_name() -> None:
    """vLLM decides by name which layout Mamba's state has on a CPU, and what cannot be combined with NIXL.

    Some of these places ask `has_connector`, others compare, as frameworks do that read vLLM's configuration. So before
    anything is decided, the configuration is written the other way that means the same (decision 0016).
    """
    from vllm.config.vllm import VllmConfig

    decide = VllmConfig.__post_init__
    if getattr(decide, "renames", None) == NAME:
        return

    @functools.wraps(decide)
    def rename_and_decide(self: Any) -> None:
        if self.kv_transfer_config is not None:
            rename(vars(self.kv_transfer_config))
        decide(self)

    rename_and_decide.renames = NAME  # type: ignore[attr-defined]
    VllmConfig.__post_init__ = rename_and_decide


def rename(settings: dict[str, Any]) -> None:
    """Write `LeasedNixlConnector` as kvlease's `NixlConnector`, in `settings` and those of its children.

    `settings` are a connector's, as in --kv-transfer-config; they are changed in place. A connector of that name from
    somebody else's module is left alone. Where kvlease stands in for vLLM's own, its module is written there as well:
    the configuration reaches processes that the environment does not, as Ray's workers.
    """
    name, module = settings.get("kv_connector"), settings.get("kv_connector_module_path")
    if name == NAME and module in (None, MODULE):
        settings |= {"kv_connector": STOCK_NAMES[0], "kv_connector_module_path": MODULE}
    elif name in STOCK_NAMES and module is None and replaces_stock():
        settings["kv_connector_module_path"] = MODULE
    for child in (settings.get("kv_connector_extra_config") or {}).get("connectors") or ():
        rename(child)


def refuse_unset_layout(vllm_config: Any) -> None:
    """Raises `UnsupportedEngine` for Mamba's state in a layout that NIXL does not hand over, for want of the plugin.

    By itself vLLM's worker would end with a sentence about the layout alone.
    """
    unseen = vllm_config.kv_transfer_config.kv_connector == NAME and vllm_config.model_config.has_inner_state
    if unseen and (layout := os.environ.get(STATE_LAYOUT)) != "DS":
        raise UnsupportedEngine(
            f"{STATE_LAYOUT} is {layout or 'not set'}, and NIXL hands over Mamba's state as DS only. vLLM looks for "
            f"NixlConnector by name to set it on a CPU, and kvlease's plugin, which would see to that, is not among "
            f'VLLM_PLUGINS. Write "kv_connector": "{STOCK_NAMES[0]}", "kv_connector_module_path": "{MODULE}", or set '
            f"{STATE_LAYOUT}=DS."
        )
