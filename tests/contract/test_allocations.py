"""S2: every way in which a vLLM's blocks change hands has its reason, and a new one is found in its text."""

import json
from pathlib import Path

import pytest

from kvlease.vllm.text import Text
from tests.contract.allocations import WHY, deeds, untold
from tests.contract.judge import ACCEPTED, accepted_minors

POOL_FILE = "vllm/v1/core/block_pool.py"
POOL = """
class BlockPool:
    def get_new_blocks(self, num_blocks):
        if num_blocks > self.get_num_free_blocks():
            raise ValueError()
        ret: list = self.free_block_queue.popleft_n(num_blocks)

        if self._reuse_watchers:
            self._notify_reuse(ret)

        for block in ret:
            block.ref_cnt += 1
        return ret

    def _notify_reuse(self, blocks):
        for block in blocks:
            watcher = self._reuse_watchers.pop(block.block_id, None)
            if watcher is not None:
                watcher(block)
"""
TOLD = """        if self._reuse_watchers:
            self._notify_reuse(ret)
"""


def test_every_deed_of_an_accepted_vllm_has_its_reason_and_no_reason_is_left_over() -> None:
    """S2: `--accept` keeps what was found; this asks whoever accepted it for the reason."""
    accepted = [json.loads((ACCEPTED / f"{minor}.json").read_text()) for minor in accepted_minors()]
    found = {deed for each in accepted for deed in each["sets"]["deeds on free blocks, references and watchers"]}
    assert found == WHY.keys()


def written(root: Path, name: str, code: str) -> Text:
    for path, content in (("vllm/__init__.py", ""), (POOL_FILE, POOL), (name, code)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return Text(root)


@pytest.mark.parametrize(
    ("code", "deed"),
    [
        ("def steal(pool): return pool.free_block_queue.popleft()", "steal: takes by popleft"),
        ("def steal(pool): return pool.free_block_queue.popleft_n(2)", "steal: takes by popleft_n"),
        ("def steal(pool, block): pool.free_block_queue.remove(block)", "steal: takes by remove"),
        ("def steal(pool):\n    take = pool.free_block_queue.popleft\n    return take()", "steal: takes by popleft"),
        ("def steal(pool):\n    queue = pool.free_block_queue\n    return queue.popleft()", "steal: takes by popleft"),
        ("def lend(pool):\n    queue = pool.free_block_queue\n    give(queue)", "lend: gives the free queue a name"),
        ("def steal(queue): return queue.popleft_n(1)", "steal: takes by popleft_n"),
        ("class Kept:\n    async def own(self, block): block.ref_cnt += 1", "Kept.own: writes ref_cnt"),
        ("def own(block): block.ref_cnt = 1", "own: writes ref_cnt"),
        ("def own(block): setattr(block, 'ref_cnt', 1)", "own: names ref_cnt"),
        ("for block in blocks: block.ref_cnt -= 1", "module: writes ref_cnt"),
        ("def cut(block): block.prev_free_block.next_free_block = None", "cut: links free blocks"),
        ("def find(pool): return getattr(pool, 'free_block_queue')", "find: names free_block_queue"),
        ("def watch(pool, block): pool.unpin_blocks([block], print)", "watch: watches by unpin_blocks"),
        ("def forget(pool): pool._reuse_watchers.clear()", "forget: uses _reuse_watchers"),
        (
            "class Own(core.BlockPool):\n    def get_new_blocks(self, n): return self.mine.pop()",
            "Own: is a BlockPool with its own get_new_blocks",
        ),
    ],
)
def test_a_second_way_to_a_block_is_found(tmp_path: Path, code: str, deed: str) -> None:
    found = deeds(written(tmp_path, "vllm/v1/new.py", code))
    assert f"v1/new.py: {deed}" in found - WHY.keys()


@pytest.mark.parametrize(
    "code",
    [
        "def other(requests): return requests.popleft()",
        "def other(names, name): names.remove(name)",
        "def look(block): return block.ref_cnt > 0",
        "def ask(pool): return pool.get_new_blocks(1)",
        "class Cached(BlockPoolLike): pass",
    ],
)
def test_what_takes_no_block_is_not_listed(tmp_path: Path, code: str) -> None:
    assert {deed for deed in deeds(written(tmp_path, "vllm/v1/new.py", code)) if "new.py" in deed} == set()


def test_the_pool_that_tells_first_is_in_order(tmp_path: Path) -> None:
    assert untold(written(tmp_path, POOL_FILE, POOL)) is None
    assert untold(written(tmp_path, POOL_FILE, POOL.replace(TOLD, "        self._notify_reuse(ret)\n"))) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def get_new_blocks", "def get_blocks"),
        (TOLD, ""),
        # Told after somebody has it; told of other blocks; told only sometimes; told, and then more is taken.
        (TOLD + "\n        for block in ret:\n            block.ref_cnt += 1\n", "        ret = own(ret)\n" + TOLD),
        ("_notify_reuse(ret)", "_notify_reuse(ret[1:])"),
        ("if self._reuse_watchers:", "if self._reuse_watchers and self.enable_caching:"),
        (TOLD, TOLD + "        ret += self.free_block_queue.popleft_n(1)\n"),
        ("            raise ValueError()", "            return self.spare.pop(num_blocks)"),
        ("ret: list = self.free_block_queue.popleft_n(num_blocks)", "ret = self.take(num_blocks)"),
        ("                watcher(block)", "                self.later.append(block)"),
    ],
)
def test_a_pool_that_gives_away_untold_is_found(tmp_path: Path, old: str, new: str) -> None:
    assert old in POOL
    assert untold(written(tmp_path, POOL_FILE, POOL.replace(old, new))) is not None
