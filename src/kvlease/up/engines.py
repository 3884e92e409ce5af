"""The settings that all engines share which are started here: for users, demos, benchmarks and tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Role = Literal["kv_producer", "kv_consumer", "kv_both"]
Connector = Literal["stock", "kvlease"]
LoadFailurePolicy = Literal["recompute", "fail"]

CONNECTORS: tuple[Connector, ...] = ("stock", "kvlease")
HOST = "127.0.0.1"
BLOCK_TOKENS = 32
"""The tokens of a KV block of the tiny models."""
SERVE = "kvlease.up.serve"
"""The program of a CPU engine."""
SCRATCH_VARIABLES = ("TMPDIR", "VLLM_RPC_BASE_PATH")
"""The variables that say where an engine's sockets and temporary files go."""
UNLOGGED = ("--disable-access-log-for-endpoints", "/health,/metrics,/v1/kvlease/health")
"""The paths that are asked all the time, and would bury the rest of an engine's log."""

_CONNECTOR_SETTINGS: dict[Connector, dict[str, str]] = {
    "stock": {"kv_connector": "NixlConnector"},
    "kvlease": {"kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "kvlease.vllm"},
}


def transfer_config(
    connector: Connector,
    role: Role,
    *,
    buffer_device: str | None = None,
    load_failure_policy: LoadFailurePolicy = "recompute",
    extra_config: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the value of `--kv-transfer-config`, as anybody would write it for this engine.

    `buffer_device` None: vLLM's own choice. `extra_config` goes into `kv_connector_extra_config` as it is.
    """
    config: dict[str, Any] = {**_CONNECTOR_SETTINGS[connector], "kv_role": role}
    if buffer_device is not None:
        config["kv_buffer_device"] = buffer_device
    config["kv_load_failure_policy"] = load_failure_policy
    if extra_config:
        config["kv_connector_extra_config"] = dict(extra_config)
    return config


def tiny_arguments(blocks: int, sequences: int, tokens: int) -> list[str]:
    """Returns vLLM's arguments for one of the tiny models: a pool of so many blocks, so many requests at once, and so
    many tokens of prompt and answer."""
    return [
        # Left to itself, vLLM takes bfloat16 for a model kept in float32 (model.py says why it is).
        *("--dtype", "float32"),
        *("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(blocks)),
        *("--max-model-len", str(tokens), "--max-num-seqs", str(sequences)),
        # Scheduler and worker are processes of their own, so that one can be stopped without the other.
        *("--distributed-executor-backend", "mp"),
        "--enforce-eager",
    ]


def side_channel(host: str, port: int) -> dict[str, str]:
    """Returns the environment that says where an engine's handshakes are answered."""
    return {"VLLM_NIXL_SIDE_CHANNEL_HOST": host, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port)}


def cpu_environment(threads: int) -> dict[str, str]:
    """Returns the environment of an engine on a CPU that computes with so many threads, on the cores that it was
    started on."""
    return {
        # vLLM's thread binding would undo the pinning to cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(threads),
        # Without this, vLLM looks for how it was distributed, and 0.33's Python beside 0.32's kernels was not.
        "VLLM_TARGET_DEVICE": "cpu",
    }


def offline_environment() -> dict[str, str]:
    """Returns the environment of an engine that fetches nothing and tells nobody that it runs."""
    return {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONWARNINGS": "ignore"}


def scratch_environment(scratch: Path) -> dict[str, str]:
    """Returns the environment that has an engine put its sockets and temporary files there."""
    return dict.fromkeys(SCRATCH_VARIABLES, str(scratch))
