"""The description of an engine, and the command line and environment made of it. Nothing is started here."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvlease.up.engines import (
    BLOCK_TOKENS,
    CONNECTORS,
    HOST,
    SERVE,
    UNLOGGED,
    Connector,
    LoadFailurePolicy,
    Role,
    cpu_environment,
    offline_environment,
    scratch_environment,
    side_channel,
    tiny_arguments,
    transfer_config,
)

# The product's names that whoever describes an engine needs are here as well.
__all__ = [
    "BLOCK_TOKENS",
    "CONNECTORS",
    "HOST",
    "SERVED_MODEL",
    "Connector",
    "EngineSpec",
    "Role",
    "command",
    "environment",
    "kv_transfer_config",
]

SERVED_MODEL = "model"
"""The name under which every engine here serves its model."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """One engine: what it serves, its part in the transfer, and where it runs.

    `host` is its address, for the other engines and, unless there is an `http_socket`, for HTTP. `launcher` is a
    command that starts the engine elsewhere (`network.py` has one), and must turn into it: same process.

    `extra_config` goes into `kv_connector_extra_config` as it is; `transfer` is put over the whole of the transfer's
    configuration. Ports left out are chosen when the engine starts; `engine_id` left out is drawn by vLLM. `cores`
    empty means: wherever the starting process may run.
    A hybrid model needs more blocks than the check here asks for: each of its KV cache groups takes its own.
    Raises ValueError for sizes that vLLM would refuse only after seconds.
    """

    name: str
    model: Path
    role: Role
    connector: Connector = "stock"
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    transfer: Mapping[str, Any] = field(default_factory=dict)
    load_failure_policy: LoadFailurePolicy = "recompute"
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    prefix_caching: bool = True
    num_blocks: int = 300
    max_num_seqs: int = 16
    max_model_len: int = 4096
    cores: tuple[int, ...] = ()
    host: str = HOST
    launcher: tuple[str, ...] = ()
    http_socket: Path | None = None
    engine_id: str | None = None
    http_port: int | None = None
    side_channel_port: int | None = None
    extra_args: tuple[str, ...] = ()
    extra_env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # One block is vLLM's null block and holds no tokens.
        needed = -(-self.max_model_len // BLOCK_TOKENS) + 1
        if self.num_blocks < needed:
            raise ValueError(
                f"engine {self.name}: num_blocks={self.num_blocks} cannot hold one request of "
                f"max_model_len={self.max_model_len} tokens: at least {needed} blocks of {BLOCK_TOKENS} are needed"
            )


def kv_transfer_config(spec: EngineSpec) -> dict[str, Any]:
    """The value of `--kv-transfer-config`, as anybody would write it for this engine."""
    config = transfer_config(
        spec.connector,
        spec.role,
        buffer_device="cpu",
        load_failure_policy=spec.load_failure_policy,
        extra_config=spec.extra_config,
    )
    if spec.engine_id is not None:
        config["engine_id"] = spec.engine_id
    return {**config, **spec.transfer}


def command(spec: EngineSpec, http_port: int) -> list[str]:
    """The engine's command line, for this Python."""
    return [
        *spec.launcher,
        *(sys.executable, "-m", SERVE),
        *("--model", str(spec.model), "--served-model-name", SERVED_MODEL),
        *(("--uds", str(spec.http_socket)) if spec.http_socket else ("--host", spec.host, "--port", str(http_port))),
        *tiny_arguments(spec.num_blocks, spec.max_num_seqs, spec.max_model_len),
        *("--tensor-parallel-size", str(spec.tensor_parallel_size)),
        *(("--data-parallel-size", str(spec.data_parallel_size)) if spec.data_parallel_size > 1 else ()),
        *UNLOGGED,
        *(() if spec.prefix_caching else ("--no-enable-prefix-caching",)),
        *("--kv-transfer-config", json.dumps(kv_transfer_config(spec))),
        *spec.extra_args,
    ]


def environment(spec: EngineSpec, side_channel_port: int, scratch: Path) -> dict[str, str]:
    """The engine's environment beyond the caller's. Sockets and temporary files go under `scratch`."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        **cpu_environment(threads=1),
        **offline_environment(),
        **side_channel(spec.host, side_channel_port),
        **scratch_environment(scratch),
        **spec.extra_env,
    }
