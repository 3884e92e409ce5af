"""The setting in which the fence is measured: between whom, through what and how much is read."""

from dataclasses import dataclass
from typing import Any

from kvlease.fence import FenceAddress

MB = 1 << 20
PAGE_BYTES = 32 * 8 * 128 * 2
"""64 KiB: keys, or values, of one layer for a block of 32 tokens, where an 8B model has 8 KV heads of 128 and 2 B for a
number. vLLM reads such pages, two a layer, scattered over the pool."""
SLOT = 7
TOKEN = 0xFEDC_BA98_7654_3210
DATA = 7
"""The value of every byte of the producer's KV cache."""
SHUFFLE = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """Two engines, and what is between them."""

    path: str
    """The name of the path, for the table."""
    tls: str | None
    """The value of UCX_TLS; None: whatever UCX finds best."""
    memory: str
    """NIXL's name for the memory of the KV cache: DRAM or VRAM. The fence's words are in host memory, always."""
    workers: int
    """The producer's workers, each with a part of the request's blocks and a word."""
    cuda_ipc: bool = False
    """UCX may read over CUDA IPC, with which the GPU copies. By itself it does so only where it sees an NVLink, and
    reads the memory of a single GPU without one piece by piece through the host."""

    @property
    def name(self) -> str:
        return f"{self.path}, {self.workers} worker{'s' if self.workers > 1 else ''}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of both engines. UCX writes what it has chosen for the reads, once, before they are timed."""
        ways = {} if self.tls is None else {"UCX_TLS": self.tls}
        copies = {"UCX_CUDA_IPC_ENABLE_GET_ZCOPY": "on"} if self.cuda_ipc else {}
        return {"UCX_PROTO_INFO": "*remote memory read*", **ways, **copies}


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """The addresses that a consumer has to know of a producer's worker."""

    metadata: bytes
    """The metadata of its NIXL agent."""
    base: int
    """The address of its part of the KV cache."""
    fence: FenceAddress
    """The address of its fence table."""


@dataclass(frozen=True, slots=True)
class ReadRegion:
    """Memory for a KV cache, or for a part of one."""

    base: int
    owner: Any
    """The object that keeps the memory."""


def allocate(memory: str, size: int, value: int) -> ReadRegion:
    """Allocates `size` bytes of `value`, all written, so that every page is there; VRAM is that of the first GPU."""
    import torch

    cache = torch.full((size,), value, dtype=torch.uint8, device="cuda:0" if memory == "VRAM" else "cpu")
    if memory == "VRAM":
        torch.cuda.synchronize()
    return ReadRegion(cache.data_ptr(), cache)


def holds(region: ReadRegion, value: int) -> bool:
    """Tells whether every byte is `value`."""
    return bool((region.owner == value).all())


def no_gpu() -> str:
    """Returns the reason why no KV cache can lie on a GPU here; "" where it can."""
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA"
    return "" if torch.cuda.is_available() else f"PyTorch {torch.__version__} finds no GPU here"
