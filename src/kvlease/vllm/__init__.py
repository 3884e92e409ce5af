"""All of kvlease that depends on vLLM. `kv_connector_module_path` points here.

connector, plugin        what vLLM makes, and the names under which it finds it
scheduler, in_scheduler  vLLM's hooks in a scheduler, and what they call
worker, in_worker        vLLM's hooks in a worker, and what they call
metadata                 what travels between the two
pool, idle               its block pool, and an engine that waits for requests
requests, prompts        requests and prompts, in the terms of `kvlease.engine`
params, settings         what clients and operators may write, and what is refused
side_channel, envelope   lease cards over vLLM's handshake listener
endpoint                 an operator's routes in vLLM's API server
listener, notices        that listener and vLLM's notices, made to bear strangers
metrics                  figures on the engine's own /metrics
watching                 whoever hears of each lease: events, spans
surface, compat, text    all that is needed of vLLM, where it is, and how a vLLM is judged by its text
"""

from typing import TYPE_CHECKING, Any

from kvlease.vllm import surface

if TYPE_CHECKING:
    from kvlease.vllm.connector import LeasedNixlConnector

__all__ = ["LeasedNixlConnector"]

_NAMES = ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector")
"""The names of the leased connector: a configuration that names this module means it (`kvlease.vllm.plugin`)."""


def __getattr__(name: str) -> Any:
    # Imported late: vLLM loads our plugin in each of its processes, also where nobody asks for this connector.
    if name in _NAMES:
        # Checked first: if parts of vLLM are missing, their list says more than the first import that fails.
        surface.check()
        from kvlease.vllm.connector import LeasedNixlConnector

        return LeasedNixlConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; connectors here are {', '.join(_NAMES)}")
