"""Everything that touches vLLM. `kv_connector_module_path` points here."""

from typing import TYPE_CHECKING, Any

from kvlease.vllm import surface

if TYPE_CHECKING:
    from kvlease.vllm.connector import LeasedNixlConnector

__all__ = ["LeasedNixlConnector"]

_NAMES = ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector")
"""All of them are the leased one: whoever names this module has chosen it (`kvlease.vllm.plugin`)."""


def __getattr__(name: str) -> Any:
    # Late: vLLM loads our plugin in each of its processes, also where nobody asks for this connector.
    if name in _NAMES:
        # First: where something is missing, the list of it says more than the first import that fails.
        surface.check()
        from kvlease.vllm.connector import LeasedNixlConnector

        return LeasedNixlConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; connectors here are {', '.join(_NAMES)}")
