"""Serves a tiny model by Ray Serve LLM on this machine's CPU, with kvlease between its prefill and decode engines.

    PYTHONPATH=.venv/ray .venv/bin/python examples/ray/cpu.py

What kvlease needs of it stands in `CONNECTORS`; gpu.yaml beside this file is the same for `serve run`. The command runs
until Ctrl-C or SIGTERM, and then takes down all that it has started.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

CONNECTORS: dict[str, dict[str, Any]] = {
    "kvlease": {"kv_connector": "NixlConnector", "kv_connector_module_path": "kvlease.vllm"},
    "leased": {"kv_connector": "LeasedNixlConnector"},
    "stock": {"kv_connector": "NixlConnector"},
}
"""The names of the connector. Ray looks for "NixlConnector", and kvlease is found under that name by its module path.
Under its own name it is found, too, but has to be made known to Ray (`register`)."""
MODEL = "model"
NUM_CPUS = 8
"""The number of cores that Ray may hand out. It is more than a small machine has: no process here needs a whole one."""
BLOCK_TOKENS = 32
CPU_ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""The environment that lets two engines of vLLM's CPU build share a small machine. Ray's processes inherit it."""


def register() -> None:
    """Tells Ray that kvlease's own name is one for NIXL, for all processes of the cluster."""
    from ray.llm._internal.serve.engines.vllm.kv_transfer.factory import KVConnectorBackendFactory

    KVConnectorBackendFactory.register_backend(
        "LeasedNixlConnector", "ray.llm._internal.serve.engines.vllm.kv_transfer.nixl:NixlConnectorBackend"
    )


def config(role: str, model: Path, connector: str, listen: str | None, max_num_seqs: int) -> Any:
    """Ray's description of the prefill or decode deployment: `role` is kv_producer or kv_consumer."""
    from ray.serve.llm import LLMConfig

    transfer = {**CONNECTORS[connector], "kv_role": role, "kv_buffer_device": "cpu"}
    if listen is not None and connector != "stock":
        transfer["kv_connector_extra_config"] = {"kv_lease_listen": listen}
    return LLMConfig(
        model_loading_config={"model_id": MODEL, "model_source": str(model)},
        accelerator_config={"kind": "cpu"},
        deployment_config={"num_replicas": 1},
        engine_kwargs={
            "dtype": "float32",
            "block_size": BLOCK_TOKENS,
            "num_gpu_blocks_override": 300,
            "max_model_len": 4096,
            "max_num_seqs": max_num_seqs,
            "enforce_eager": True,
            "kv_transfer_config": transfer,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--connector", choices=CONNECTORS, default="kvlease", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="of the OpenAI API on 127.0.0.1, default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=8080, help="of Ray's metrics, default: %(default)s")
    parser.add_argument("--prefill-listen", default="127.0.0.1:9410", help="P's operators' door, default: %(default)s")
    parser.add_argument("--decode-listen", default="127.0.0.1:9411", help="D's operators' door, default: %(default)s")
    parser.add_argument(
        "--decode-seats", type=int, default=8, help="requests that D runs at once, default: %(default)s"
    )
    parser.add_argument("--temp-dir", type=Path, help="Ray's folder of sockets and logs; its path must be a short one")
    args = parser.parse_args()
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    try:
        import ray
        from ray import serve
    except ModuleNotFoundError as e:
        sys.exit(f"{e}: Ray is installed beside the environment by `make ray`; run this with PYTHONPATH=.venv/ray")

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from kvlease.up.model import build_model

    model = build_model()
    try:
        ray.init(
            num_cpus=NUM_CPUS,
            include_dashboard=False,
            _temp_dir=args.temp_dir and str(args.temp_dir),
            _metrics_export_port=args.metrics_port,
        )
        # After Ray has set its own handler, which ends this process and leaves the cluster's.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if args.connector == "leased":
            register()
        from ray.serve.llm import build_pd_openai_app

        app = build_pd_openai_app(
            {
                "prefill_config": config("kv_producer", model, args.connector, args.prefill_listen, 8),
                "decode_config": config("kv_consumer", model, args.connector, args.decode_listen, args.decode_seats),
                "ingress_deployment_config": {"num_replicas": 1},
            }
        )
        serve.start(http_options={"host": "127.0.0.1", "port": args.port})
        serve.run(app, name="kvlease", route_prefix="/")
        print(f"ready: http://127.0.0.1:{args.port}/v1 serves {MODEL!r} by {args.connector}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("ending", flush=True)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
