"""What kvlease reads from vLLM's configuration, and what it refuses to run with."""

import os
from typing import TYPE_CHECKING

from kvlease.errors import UnsupportedEngine
from kvlease.protocol import LeaseConfig, resolve

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def lease_config(vllm_config: "VllmConfig") -> tuple[LeaseConfig, list[str]]:
    """The settings of leases, and the warnings to log about them. Raises `ConfigError`."""
    transfer = vllm_config.kv_transfer_config
    return resolve(transfer.kv_connector_extra_config, os.environ)


def refuse_unguaranteed(vllm_config: "VllmConfig") -> None:
    """Raises `UnsupportedEngine` where stock vLLM would run and kvlease could not keep its promises."""
    transfer, parallel = vllm_config.kv_transfer_config, vllm_config.parallel_config
    if transfer.get_from_extra_config("bidirectional_kv_xfer", False):
        raise UnsupportedEngine(
            "bidirectional_kv_xfer is true: a prefill engine that reads back from a decode engine is not fenced by "
            "this version of kvlease. Leave it out, or use NixlConnector for it."
        )
    for name in ("pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size"):
        if (size := getattr(parallel, name, 1)) > 1:
            raise UnsupportedEngine(
                f"{name} is {size}: kvlease is built and tested for tensor and data parallelism only. Set it to 1, or "
                "use NixlConnector."
            )
