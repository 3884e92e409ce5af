"""The description of an engine, and the command line and environment made of it. Nothing is started here."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["kv_producer", "kv_consumer", "kv_both"]
Connector = Literal["stock", "kvlease"]
LoadFailurePolicy = Literal["recompute", "fail"]

CONNECTORS: tuple[Connector, ...] = ("stock", "kvlease")
SERVED_MODEL = "model"
"""The name under which every engine here serves its model."""
BLOCK_TOKENS = 32
HOST = "127.0.0.1"

_CONNECTOR_SETTINGS: dict[Connector, dict[str, str]] = {
    "stock": {"kv_connector": "NixlConnector"},
    "kvlease": {"kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "kvlease.vllm"},
}


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
    config: dict[str, Any] = {
        **_CONNECTOR_SETTINGS[spec.connector],
        "kv_role": spec.role,
        "kv_buffer_device": "cpu",
        "kv_load_failure_policy": spec.load_failure_policy,
    }
    if spec.extra_config:
        config["kv_connector_extra_config"] = dict(spec.extra_config)
    if spec.engine_id is not None:
        config["engine_id"] = spec.engine_id
    return {**config, **spec.transfer}


def command(spec: EngineSpec, http_port: int) -> list[str]:
    """The engine's command line, for this Python."""
    return [
        *spec.launcher,
        *(sys.executable, "-m", "proof.realengines.serve"),
        *("--model", str(spec.model), "--served-model-name", SERVED_MODEL),
        *(("--uds", str(spec.http_socket)) if spec.http_socket else ("--host", spec.host, "--port", str(http_port))),
        # Left to itself, vLLM takes bfloat16 for a model kept in float32 (model.py says why it is).
        *("--dtype", "float32"),
        *("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(spec.num_blocks)),
        *("--max-model-len", str(spec.max_model_len), "--max-num-seqs", str(spec.max_num_seqs)),
        *("--tensor-parallel-size", str(spec.tensor_parallel_size)),
        *(("--data-parallel-size", str(spec.data_parallel_size)) if spec.data_parallel_size > 1 else ()),
        # Scheduler and worker are processes of their own, so that one can be stopped without the other.
        *("--distributed-executor-backend", "mp"),
        "--enforce-eager",
        # Asked many times a second, they would bury the rest of the log.
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
        *(() if spec.prefix_caching else ("--no-enable-prefix-caching",)),
        *("--kv-transfer-config", json.dumps(kv_transfer_config(spec))),
        *spec.extra_args,
    ]


def environment(spec: EngineSpec, side_channel_port: int, scratch: Path) -> dict[str, str]:
    """The engine's environment beyond the caller's. Sockets and temporary files go under `scratch`."""
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # vLLM's thread binding would undo the pinning to cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # Without this, vLLM looks for how it was distributed, and 0.33's Python beside 0.32's kernels was not.
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_NIXL_SIDE_CHANNEL_HOST": spec.host,
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_channel_port),
        "VLLM_RPC_BASE_PATH": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONWARNINGS": "ignore",
        **spec.extra_env,
    }
