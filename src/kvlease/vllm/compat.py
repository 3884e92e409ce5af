"""All that depends on vLLM's version: where its parts are, each of them a line of `surface`."""

import logging
import os

import vllm
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    KVConnectorWorkerMetadata,
)
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.metadata import (
    GET_META_MSG,
    NixlConnectorMetadata,
    NixlHandshakePayload,
    ReqMeta,
)
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.pull_scheduler import NixlPullConnectorScheduler
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.pull_worker import NixlPullConnectorWorker
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.stats import NixlKVConnectorStats, NixlPromMetrics
from vllm.utils.network_utils import make_zmq_path
from vllm.v1.engine import EngineCoreRequestType
from vllm.v1.engine.core import EngineCoreProc, EngineShutdownState

from kvlease.errors import UnsupportedEngine
from kvlease.vllm.surface import TESTED, TRY_ANYWAY

__all__ = [
    "EngineCoreProc",
    "EngineCoreRequestType",
    "EngineShutdownState",
    "GET_META_MSG",
    "KVConnectorHandshakeMetadata",
    "KVConnectorRole",
    "KVConnectorTransferResults",
    "KVConnectorWorkerMetadata",
    "NixlConnectorMetadata",
    "NixlHandshakePayload",
    "NixlKVConnectorStats",
    "NixlPromMetrics",
    "NixlPullConnector",
    "NixlPullConnectorScheduler",
    "NixlPullConnectorWorker",
    "ReqMeta",
    "check_version",
    "log_as_vllm_does",
    "make_zmq_path",
    "nixl_package",
]


def check_version(version: str = vllm.__version__) -> None:
    """Raises `UnsupportedEngine` for a vLLM that kvlease is not tested with, unless the user asked to try it."""
    if ".".join(version.split(".")[:2]) in TESTED or os.environ.get(TRY_ANYWAY) == "1":
        return
    raise UnsupportedEngine(
        f"this is vLLM {version}; kvlease is tested with {', '.join(f'{v}.x' for v in TESTED)}. Use one of these, or "
        f"set {TRY_ANYWAY}=1 to try this one: then run kvlease's engine tests with it before you trust it."
    )


def nixl_package() -> str:
    """Returns the package of the NIXL that vLLM itself uses: `nixl_cu13` behind `nixl`, or `nixl_rocm`.

    vLLM is asked, since before it imports NIXL it sets a variable that prevents a leak in UCX
    (`UCX_RCACHE_MAX_UNRELEASED`). Raises `UnsupportedEngine` where there is no NIXL.
    """
    from vllm.distributed.nixl_utils import NixlWrapper

    if NixlWrapper is None:
        raise UnsupportedEngine("NIXL is not installed, or cannot be imported. Install the one that your vLLM needs.")
    package: str = NixlWrapper.__module__.partition(".")[0]
    return package


def log_as_vllm_does() -> None:
    """Sends kvlease's log lines where vLLM's go: vLLM sets handlers on its own logger only."""
    ours, theirs = logging.getLogger("kvlease"), logging.getLogger("vllm")
    if not ours.handlers:
        ours.handlers = theirs.handlers
        ours.setLevel(theirs.level)
        ours.propagate = theirs.propagate
