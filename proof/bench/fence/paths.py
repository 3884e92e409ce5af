"""The paths from the producer's KV cache to the consumer's, by the names that `--data` takes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proof.bench.fence.setting import Setting
from proof.bench.frame.errors import CannotRun

WORKERS = (1, 8)
DATA_VARIABLE = "KVLEASE_BENCH_DATA"
"""The variable in which `--data` reaches the benchmark's own process: names of `PATHS`, with commas."""


@dataclass(frozen=True, slots=True)
class ReadPath:
    """The memory in which both engines have their KV cache, and what UCX may use between them."""

    name: str
    """Its name in the table."""
    memory: str = "DRAM"
    """NIXL's name for the memory: DRAM or VRAM."""
    tls: str | None = None
    """The value of UCX_TLS; None: whatever UCX finds best."""
    cuda_ipc: bool = False
    """The setting's `cuda_ipc`."""

    @property
    def wants_gpu(self) -> bool:
        return self.memory == "VRAM"


PATHS: Mapping[str, ReadPath] = {
    "host": ReadPath("shared memory"),
    "host-tcp": ReadPath("TCP", tls="tcp"),
    "device": ReadPath("KV cache on a GPU, as UCX finds best", "VRAM"),
    "device-ipc": ReadPath("KV cache on a GPU, over CUDA IPC", "VRAM", cuda_ipc=True),
}


def asked() -> Sequence[str]:
    """Returns the names that `--data` was given; none where it was not given."""
    return [name for name in os.environ.get(DATA_VARIABLE, "").split(",") if name]


def left_out(names: Sequence[str], no_gpu: str) -> dict[str, str]:
    """Returns why each of the paths that are not measured is not, by name.

    `names`: those asked for; none: all that this machine can. `no_gpu`: the reason why it has no GPU; "" where it has
    one. Raises `CannotRun` when a path was asked for that wants one.
    """
    impossible = [name for name, path in PATHS.items() if no_gpu and path.wants_gpu]
    if wanted := [name for name in impossible if name in names]:
        raise CannotRun(f"--data {','.join(wanted)} wants a GPU, and {no_gpu}: leave it out, or run where there is one")
    reasons = {name: "--data leaves it out" for name in PATHS if names and name not in names}
    return reasons | dict.fromkeys(impossible, no_gpu)


def settings_of(path: ReadPath, gpu: bool) -> list[Setting]:
    """Returns the settings in which a path is measured, on a machine with or without a GPU."""
    # On a machine with a GPU, NIXL refuses ways that know none, even from host memory to host memory.
    tls = f"{path.tls},cuda_copy" if path.tls and gpu else path.tls
    return [Setting(path.name, tls, path.memory, workers, path.cuda_ipc) for workers in WORKERS]
