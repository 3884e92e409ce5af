"""vLLM's block pool as the pool of leases: it keeps what leases hold, and tells before it gives away what they held."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.kv_cache_utils import KVCacheBlock
    from vllm.v1.kv_cache_interface import KVCacheConfig


def has_one_pool(manager: "KVCacheManager") -> bool:
    """Tells whether the blocks of all KV cache groups are of one pool: else a block's number says too little."""
    return all(group.block_pool is manager.block_pool for group in manager.coordinator.single_type_managers)


def block_bytes(kv_cache_config: "KVCacheConfig") -> int:
    """Returns the memory of one block in one worker: in vLLM's cache each block has as much as any other, for the
    pages of all layers of the KV cache group that owns it; groups overlay each other."""
    sizes: list[int] = [tensor.size for tensor in kv_cache_config.kv_cache_tensors if not tensor.host_resident]
    # Each tensor's size is that of the one allocation in which they all lie.
    return max(sizes) // kv_cache_config.num_blocks if sizes else 0


class VllmPool:
    """vLLM's `BlockPool` as `kvlease.engine.ports.BlockPool`, from the moment at which vLLM hands it over (`bind`)."""

    def __init__(self) -> None:
        self._pool: BlockPool | None = None
        self._on_reuse: Callable[[int], None] = lambda _: None

    @property
    def free(self) -> int:
        """The number of free blocks."""
        return int(self._bound().get_num_free_blocks())

    @property
    def total(self) -> int:
        """The number of all blocks; 0 as long as vLLM has not handed its pool over."""
        return 0 if self._pool is None else int(self._pool.num_gpu_blocks)

    @property
    def is_bound(self) -> bool:
        """Tells whether vLLM has handed its pool over."""
        return self._pool is not None

    def bind(self, pool: "BlockPool", reset: Callable[[int], None]) -> None:
        """Takes vLLM's pool. `reset` is called before vLLM resets its prefix cache, with the number of blocks in use.

        vLLM resets nothing while a block is in use. It waits for unread blocks before it does so in a pause; a lease
        has no request that it could wait for, so leases have to end first, or the old weights' cache would live on.
        """
        self._pool = pool
        reset_prefix_cache = pool.reset_prefix_cache

        def reset_after_leases() -> bool:
            # The null block is always in use.
            reset(pool.num_gpu_blocks - pool.get_num_free_blocks() - 1)
            return bool(reset_prefix_cache())

        pool.reset_prefix_cache = reset_after_leases

    def watch(self, on_reuse: Callable[[int], None]) -> None:
        self._on_reuse = on_reuse

    def hold(self, blocks: Sequence[int]) -> None:
        pool = self._bound()
        pool.touch([pool.blocks[block] for block in blocks])

    def give_back(self, blocks: Sequence[int], last: bool) -> None:
        pool = self._bound()
        # vLLM frees from a prompt's end to its beginning, too: what prompts have in common is reused last.
        given = [pool.blocks[block] for block in reversed(blocks)]
        if last:
            pool.unpin_blocks(given, self._reused)
        else:
            pool.free_blocks(given)

    def _reused(self, block: "KVCacheBlock") -> None:
        self._on_reuse(block.block_id)

    def _bound(self) -> "BlockPool":
        assert self._pool is not None, "vLLM has not handed its block pool over"
        return self._pool
