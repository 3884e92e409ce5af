"""The names under which vLLM finds the connector (R37), and the entry point `vllm.general_plugins`.

If kvlease is installed, `"kv_connector": "LeasedNixlConnector"` is enough. Frameworks around vLLM, and vLLM itself in
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
"""The names of vLLM's connectors that kvlease can replace: both are the pull connector."""
REPLACES = "KVLEASE_REPLACES_NIXL"
STATE_LAYOUT = "VLLM_SSM_CONV_STATE_LAYOUT"
RPC = "kvlease_rpc"
"""The name of the utility call that carries a question to the admin core."""


def replaces_stock() -> bool:
    """Tells whether kvlease replaces vLLM's own connector under its names. Raises `ConfigError`."""
    value = os.environ.get(REPLACES, "")
    if value not in ("", "0", "1"):
        raise ConfigError(f"{REPLACES} is {value!r}, it must be 1 (kvlease takes NixlConnector's place) or 0")
    return value == "1"


def register() -> None:
    """Makes the connector known to vLLM. Raises `ConfigError`.

    vLLM calls it in each of its processes, in some of them more than once; where plugins are switched off, the
    connector's own module calls it (vllm 57683).
    """
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    if NAME not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector(NAME, MODULE, NAME)
    if replaces_stock():
        for name in STOCK_NAMES:
            KVConnectorFactory._registry[name] = KVConnectorFactory._registry[NAME]
    _let_vllm_read_the_stock_name()


def _let_vllm_read_the_stock_name() -> None:
    """Changes vLLM's configuration so that vLLM's decisions by connector name take kvlease for NixlConnector.

    By name vLLM decides on the layout of Mamba's state on a CPU, and on what cannot be combined with NIXL. Some places
    ask `has_connector`, others compare names, as frameworks do. So before anything is decided, the configuration is
    rewritten in a form that means the same (decision 0016).
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
    """Rewrites `LeasedNixlConnector` as kvlease's `NixlConnector`, in `settings` and those of its children.

    `settings` are a connector's, as in --kv-transfer-config; they are changed in place. A connector of that name from
    another module is left alone. Where kvlease replaces vLLM's own, its module is written there as well, since the
    configuration reaches processes that the environment does not, such as Ray's workers.
    """
    name, module = settings.get("kv_connector"), settings.get("kv_connector_module_path")
    if name == NAME and module in (None, MODULE):
        settings |= {"kv_connector": STOCK_NAMES[0], "kv_connector_module_path": MODULE}
    elif name in STOCK_NAMES and module is None and replaces_stock():
        settings["kv_connector_module_path"] = MODULE
    for child in (settings.get("kv_connector_extra_config") or {}).get("connectors") or ():
        rename(child)


def refuse_unset_layout(vllm_config: Any) -> None:
    """Raises `UnsupportedEngine` where the plugin did not run, and Mamba's state has a layout that NIXL cannot send.

    Without this check, vLLM's worker would end with a message about the layout alone.
    """
    unseen = vllm_config.kv_transfer_config.kv_connector == NAME and vllm_config.model_config.has_inner_state
    if unseen and (layout := os.environ.get(STATE_LAYOUT)) != "DS":
        raise UnsupportedEngine(
            f"{STATE_LAYOUT} is {layout or 'not set'}, and NIXL hands over Mamba's state as DS only. vLLM looks for "
            f"NixlConnector by name to set it on a CPU, and kvlease's plugin, which would see to that, is not among "
            f'VLLM_PLUGINS. Write "kv_connector": "{STOCK_NAMES[0]}", "kv_connector_module_path": "{MODULE}", or set '
            f"{STATE_LAYOUT}=DS."
        )
