"""The cost of a prompt's fingerprint, at the producer and at the consumer alike, for each leased request.

Stock's is what vLLM takes for the same prompt when it hashes its blocks for the prefix cache, which it does as well.
"""

import random
from collections.abc import Callable
from typing import Any

from proof.bench.core.stock import require_vllm
from proof.bench.frame.figures import Effort, FigureRow, Goal, Result
from proof.bench.frame.growth import growth_curves
from proof.bench.frame.pairs import Work, compare, timing
from proof.bench.frame.progress import say

SIZES = {Effort.SHORT: (1_000, 100_000), Effort.FULL: (1_000, 10_000, 100_000, 1_000_000)}
JUDGED = 100_000
LIMIT_US = 2_000.0
BLOCK_TOKENS = 16
VOCABULARY = 150_000


def run(effort: Effort) -> Result:
    require_vllm()
    rows = {tokens: _measure(tokens, effort) for tokens in SIZES[effort]}
    ours = rows[JUDGED].ours
    assert ours is not None
    return Result(
        name="prompt",
        title="what binds a lease to its prompt",
        rows=[*rows.values()],
        goals=[
            Goal(
                f"under {LIMIT_US / 1000:g} ms for {JUDGED:,} tokens, on either side",
                f"{ours.median / 1000:.2f} ms",
                ours.median < LIMIT_US,
            )
        ],
        curves=[growth_curves(rows, "tokens of the prompt", "µs for each request", LIMIT_US)],
        notes=[
            "kvlease: the fingerprint of a request of vLLM's, taken once by P and once by D, in their schedulers",
            f"stock: vLLM's hashes of the same prompt's blocks of {BLOCK_TOKENS} tokens (sha256), which both sides "
            "take beside where prefix caching is on, as it is by default",
        ],
    )


def _measure(tokens: int, effort: Effort) -> FigureRow:
    from kvlease.vllm.prompts import fingerprint_of

    say(f"{tokens:,} tokens")
    request, hash_blocks = _request(tokens), _block_hasher()
    ours, stock = Work(lambda: fingerprint_of(request)), Work(lambda: hash_blocks(request))
    return compare(f"{tokens:,} tokens", ours, stock, timing(effort))


def _request(tokens: int) -> Any:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.request import Request

    chance = random.Random(35)
    ids = [chance.randrange(VOCABULARY) for _ in range(tokens)]
    return Request("cmpl-0-0", ids, SamplingParams(max_tokens=1), pooling_params=None)


def _block_hasher() -> Callable[[Any], object]:
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

    init_none_hash(sha256)
    hasher = get_request_block_hasher(BLOCK_TOKENS, sha256)

    def hash_anew(request: Any) -> object:
        request.block_hashes = []
        return hasher(request)

    return hash_anew
