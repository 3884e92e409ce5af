"""The ways in which the blocks of a vLLM change hands, from its text: every one of them must be known (S2).

The word of a lapsed lease stays armed until `BlockPool.get_new_blocks` tells that a block of the lease is about to be
given away. So nobody else may take blocks out of the free queue, count their references, keep a pool of another kind,
or take a watcher's place, unless somebody has read why it does no harm: `WHY` says it.
"""

import ast
import re
from collections.abc import Iterator

from kvlease.vllm.text import Text

POOL = "vllm.v1.core.block_pool:BlockPool"
QUEUE = "free_block_queue"
TAKES = ("popleft", "popleft_n", "remove")
LINKS = ("prev_free_block", "next_free_block", "num_free_blocks")
WORDS = re.compile("|".join((QUEUE, "popleft_n", "ref_cnt", "unpin_blocks", "_reuse_watchers", "BlockPool", *LINKS)))
"""A file without any of these words cannot do what is looked for: it is not parsed."""

POOLS, QUEUES = "v1/core/block_pool.py: BlockPool", "v1/core/kv_cache_utils.py: FreeKVCacheBlockQueue"
CHUNKS = "v1/kv_offload/cpu/manager.py: CPUOffloadingManager"
WHY: dict[str, str] = {
    f"{POOLS}.__init__: takes by popleft": "the null block, before there is any request",
    f"{POOLS}.__init__: uses _reuse_watchers": "there are none yet",
    f"{POOLS}.get_new_blocks: takes by popleft_n": "the one way in which a block gets a new owner",
    f"{POOLS}.get_new_blocks: uses _reuse_watchers": "it does not call where nobody watches",
    f"{POOLS}.get_new_blocks: writes ref_cnt": "the new owner's reference, after the watchers have heard",
    f"{POOLS}._notify_reuse: uses _reuse_watchers": "a watcher is called once, and forgotten",
    f"{POOLS}.unpin_blocks: uses _reuse_watchers": "the last watcher of a block is the only one",
    f"{POOLS}.unpin_blocks: writes ref_cnt": "a reference is given back; a watcher stays",
    f"{POOLS}.reset_prefix_cache: uses _reuse_watchers": "all hear of it; no block has a reference then",
    f"{POOLS}.touch: takes by remove": "a prefix is hit: its blocks are read and not written",
    f"{POOLS}.touch: writes ref_cnt": "the reference of a reader",
    f"{POOLS}.free_blocks: writes ref_cnt": "a reference is given back",
    "v1/core/single_type_kv_cache_manager.py: SingleTypeKVCacheManager._apply_cow: writes ref_cnt": (
        "a copy of a block that is hit in part is held until it is made; it came from get_new_blocks"
    ),
    "v1/core/single_type_kv_cache_manager.py: MambaManager.allocate_new_blocks: writes ref_cnt": (
        "a running request writes on in its own block, which is held until the cache has its copy"
    ),
    "v1/simple_kv_offload/manager.py: SimpleCPUOffloadScheduler._prepare_lazy_store_specs: "
    "gives the free queue a name": "it walks the queue, and touches what it copies to the host",
    **{
        f"{QUEUES}.{name}: links free blocks": "the queue itself; the pool alone calls it"
        for name in ("__init__", "append", "append_n", "popleft", "popleft_n", "prepend_n", "remove")
    },
    # A second pool: block ids of a group that has one are no indices into the pool that a connector is given.
    "v1/hisparse/block_pool.py: SharedEventQueueBlockPool: is a BlockPool with its own __init__, kv_event_queue": (
        "the host's pool of HiSparse, with vLLM's get_new_blocks; kvlease does not run with HiSparse"
    ),
    "v1/hisparse/coordinator.py: HiSparseCoordinator._unpin_page: watches by unpin_blocks": "as above",
    "v1/hisparse/coordinator.py: HiSparseCoordinator.free: watches by unpin_blocks": "as above",
    "distributed/kv_transfer/kv_connector/v1/umbp/scheduler.py: _LookupBlockPool: "
    "is a BlockPool with its own __init__, get_cached_block, clear_lookup": "it finds hashes, and gives no block away",
    **{
        f"{CHUNKS}.{name}: writes ref_cnt": "readers of a chunk in the host's memory, which is no block of the pool"
        for name in ("prepare_load", "_prepare_load", "complete_load", "complete_store")
    },
    "v1/kv_offload/cpu/policies/base.py: ChunkStatus: names ref_cnt": "such a chunk",
    "v1/kv_offload/cpu/policies/base.py: ChunkStatus.__init__: writes ref_cnt": "such a chunk",
}
"""The reason for each thing that may be done there: by file, function and deed."""


def deeds(text: Text) -> set[str]:
    """All that is done to free blocks, to counts of references and to watchers, as `file: function: deed`."""
    found: set[str] = set()
    for name in sorted(text.names):
        if WORDS.search(text.read(name)) and (tree := text.file(name)) is not None:
            found |= {f"{name.removeprefix('vllm/')}: {deed}" for deed in _in(tree, "", frozenset())}
    return found


def _in(node: ast.AST, inside: str, queues: frozenset[str]) -> Iterator[str]:
    """The deeds below a node; `queues` are the names that the free queue goes by there."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            owner = f"{inside}.{child.name}".lstrip(".")
            if isinstance(child, ast.ClassDef):
                yield from _pool_of_another_kind(child, owner)
            yield from _in(child, owner, queues | _names_of_the_queue(child))
            continue
        yield from (f"{inside or 'module'}: {deed}" for deed in _deed(child, queues))
        yield from _in(child, inside, queues)


def _names_of_the_queue(function: ast.AST) -> frozenset[str]:
    assigned = [n for n in ast.walk(function) if isinstance(n, ast.Assign) and _is_queue(n.value, frozenset())]
    return frozenset(t.id for each in assigned for t in each.targets if isinstance(t, ast.Name))


def _is_queue(node: ast.AST, queues: frozenset[str]) -> bool:
    return getattr(node, "attr", None) == QUEUE or (isinstance(node, ast.Name) and node.id in queues)


def _deed(node: ast.AST, queues: frozenset[str]) -> Iterator[str]:
    match node:
        # Nothing else has a `popleft_n`, whatever it is called; `popleft` and `remove` have many.
        case ast.Attribute(value=owner, attr=attr) if attr in TAKES and (
            attr == "popleft_n" or _is_queue(owner, queues)
        ):
            yield f"takes by {attr}"
        case ast.Attribute(attr="ref_cnt", ctx=ast.Store() | ast.Del()):
            yield "writes ref_cnt"
        case ast.Attribute(attr=attr, ctx=ast.Store() | ast.Del()) if attr in LINKS:
            yield "links free blocks"
        case ast.Attribute(attr="unpin_blocks"):
            yield "watches by unpin_blocks"
        case ast.Attribute(attr="_reuse_watchers"):
            yield "uses _reuse_watchers"
        case ast.Assign(value=value) if _is_queue(value, frozenset()):
            yield "gives the free queue a name"
        # By name: `getattr(pool, "free_block_queue")`, `setattr(block, "ref_cnt", 1)`.
        case ast.Constant(value="free_block_queue" | "ref_cnt" | "popleft_n" | "_reuse_watchers" as word):
            yield f"names {word}"


def _pool_of_another_kind(kind: ast.ClassDef, owner: str) -> Iterator[str]:
    if any(ast.unparse(base).rpartition(".")[2] == "BlockPool" for base in kind.bases):
        methods = [node.name for node in kind.body if isinstance(node, ast.FunctionDef)]
        yield f"{owner}: is a BlockPool with its own {', '.join(dict.fromkeys(methods)) or 'nothing'}"


def untold(text: Text) -> str | None:
    """The way in which blocks may be given away before anybody is told; None where there is none."""
    function = text.find(f"{POOL}.get_new_blocks")
    if not isinstance(function, ast.FunctionDef):
        return "there is no get_new_blocks"
    steps = [ast.unparse(step) for step in function.body]
    taken = next((i for i, step in enumerate(function.body) if _takes(step)), None)
    if taken is None or not isinstance(given := function.body[taken], ast.Assign | ast.AnnAssign):
        return "get_new_blocks takes its blocks in another way"
    blocks = ast.unparse(given.targets[0] if isinstance(given, ast.Assign) else given.target)
    call = f"self._notify_reuse({blocks})"
    if steps[taken + 1 : taken + 2] not in ([call], [f"if self._reuse_watchers:\n    {call}"]):
        return "get_new_blocks does not tell of its blocks as soon as it has them"
    if any(_takes(step) for step in function.body[taken + 1 :]) or any(map(_leaves, function.body[:taken])):
        return "get_new_blocks has a second way to take blocks"
    told = text.find(f"{POOL}._notify_reuse")
    if told is None or "watcher(block)" not in ast.unparse(told):
        return "_notify_reuse calls no watcher"
    return None


def _takes(step: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in TAKES for node in ast.walk(step))


def _leaves(step: ast.AST) -> bool:
    return any(isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) for node in ast.walk(step))
