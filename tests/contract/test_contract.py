"""R36: every vLLM on this machine is as its minor was accepted, and every change in another one is found."""

import shutil
import zipfile
from pathlib import Path

import pytest

from kvlease.errors import UnsupportedEngine
from kvlease.vllm import surface
from kvlease.vllm.text import Text, file_of
from tests.contract.allocations import POOL
from tests.contract.installed import folders
from tests.contract.judge import BODIES, Found, accepted_minors, judge

VLLMS = folders()


def test_what_was_accepted_is_of_the_minors_that_engines_were_tested_with() -> None:
    """R36: the accepted minors are those of `TESTED`."""
    assert list(surface.TESTED) == accepted_minors()


@pytest.mark.parametrize("minor", VLLMS or [pytest.param("", marks=pytest.mark.skip(reason="no vLLM is here"))])
def test_a_vllm_that_is_here_is_what_was_accepted(minor: str) -> None:
    if minor not in accepted_minors():
        pytest.skip(f"nothing of {minor} is accepted: `make contract VLLM={minor}` says what is to be read")
    said = judge(Text(VLLMS[minor]), Found.accepted(minor))
    assert said == [], "\n".join(map(str, said))


# -- what is planted is found ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that has all that kvlease needs, and nothing else. It is made from the table: no vLLM is needed for it."""
    root = tmp_path_factory.mktemp("small")
    classes: dict[tuple[str, str], dict[str, str]] = {}
    for where, takes in [*surface.PLACES, *((body, "self") for body in BODIES)]:
        module, _, dotted = where.partition(":")
        owner, _, name = dotted.rpartition(".")
        classes.setdefault((module, owner), {}).setdefault(name, "NAME" if takes is None else takes)
    files: dict[str, list[str]] = {"vllm/__init__.py": []}
    for (module, owner), members in sorted(classes.items()):
        lines = files.setdefault(file_of(module), [])
        if not owner:
            owned = {name for (where, kind) in classes for name in [kind] if where == module}
            lines += [_member(name, takes) for name, takes in members.items() if name not in owned]
            continue
        stores = " ".join(f"self.{name} = 0;" for name in surface.ATTRIBUTES.get(f"{module}:{owner}", "").split())
        lines.append(f"class {owner}:")
        for name, takes in ({"__init__": "self"} | members).items():
            lines.append(_indented(_member(name, takes, stores if name == "__init__" else "")))
    for where, names in surface.ATTRIBUTES.items():
        module, _, owner = where.partition(":")
        if (module, owner) not in classes:
            stores = " ".join(f"self.{name} = 0;" for name in names.split())
            files.setdefault(file_of(module), []).append(
                f"class {owner}:\n" + _indented(_member("__init__", "self", stores))
            )
    for name, lines in files.items():
        folder = name.removesuffix(".py")
        if any(other.startswith(f"{folder}/") for other in files) and not name.endswith("__init__.py"):
            name = f"{folder}/__init__.py"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")
    return root


WRITTEN = {
    "get_new_blocks": """def get_new_blocks(self, num_blocks):
    ret = self.free_block_queue.popleft_n(num_blocks)
    if self._reuse_watchers:
        self._notify_reuse(ret)
    for block in ret:
        block.ref_cnt += 1
    return ret""",
    "_notify_reuse": """def _notify_reuse(self, blocks):
    for block in blocks:
        watcher = self._reuse_watchers.pop(block.block_id, None)
        if watcher is not None:
            watcher(block)""",
}
"""The functions whose inside is judged by a rule, as vLLM has them."""


def _member(name: str, takes: str, body: str = "") -> str:
    if name in WRITTEN:
        return WRITTEN[name]
    if takes == "NAME":
        return f"{name} = 0"
    return f"def {name}({', '.join(takes.split())}):\n    {body or 'return 1'}"


def _indented(code: str) -> str:
    return "\n".join("    " + line for line in code.splitlines())


def test_a_tree_that_has_all_of_it_leaves_nothing_to_do(small: Path) -> None:
    text = Text(small)
    assert judge(text, Found.of(text)) == []


WORKER_FILE = file_of(surface.WORKER.partition(":")[0])
PULL_FILE = file_of(surface.PULL_SCHEDULER.partition(":")[0])
BASE_FILE = file_of(surface.BASE.partition(":")[0])
METADATA_FILE = file_of(f"{surface.NIXL}.metadata")
POOL_FILE = file_of(POOL.partition(":")[0])
DONE = "def _pop_done_transfers(self, transfers):\n        return 1"
FINISHED = "def request_finished(self, request, block_ids):\n        return 1"
REMOTE = "class RemoteMeta:\n"
HOOKS = "class KVConnectorBase_V1:\n"
DECIDES = 'def decide(name):\n    return name == "NixlConnector"\n'


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (WORKER_FILE, "def _pop_done_transfers", "def _pop_done", "missing"),
        (WORKER_FILE, "self.tp_mappings = 0;", "", "missing"),
        (WORKER_FILE, "(self, transfers)", "(self, handles)", "different"),
        (WORKER_FILE, DONE, DONE.replace("return 1", "return 2"), "changed"),
        (PULL_FILE, FINISHED, FINISHED.replace("return 1", "return dict(new_key=1)"), "new"),
        (PULL_FILE, "", "params = {}\nparams.get('remote_thing')\n", "new"),
        (METADATA_FILE, REMOTE, REMOTE + "    generation: int\n", "new"),
        (BASE_FILE, HOOKS, HOOKS + "    def on_pause(self):\n        return 1\n", "new"),
        ("vllm/decides.py", "", DECIDES, "new"),
        ("vllm/v1/steals.py", "", "def steal(pool):\n    return pool.free_block_queue.popleft()\n", "new"),
        (POOL_FILE, "self._notify_reuse(ret)", "pass", "broken"),
        # A connector may well know its own name.
        (METADATA_FILE, "", DECIDES, ""),
    ],
)
def test_a_change_is_found_and_named(small: Path, tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    shutil.copytree(small, tmp_path / "changed")
    changed = tmp_path / "changed" / name
    before = changed.read_text() if changed.exists() else ""
    assert old in before
    changed.write_text(before.replace(old, new) if old else before + new)
    found = judge(Text(tmp_path / "changed"), Found.of(Text(small)))
    assert {statement.kind for statement in found} >= ({said} if said else set())
    assert bool(found) == bool(said)


def test_the_page_says_what_to_do_with_each_kind_of_line() -> None:
    page = (Path(__file__).parents[2] / "docs/contribute/vllm-versions.md").read_text()
    for kind in ("missing", "different", "new", "gone", "changed", "broken"):
        assert f"| `{kind}` |" in page


def test_comments_docstrings_and_annotations_may_change(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "changed")
    changed = tmp_path / "changed" / WORKER_FILE
    old, new = "(self, transfers):", '(self, transfers: "dict") -> None:\n        """Whole sentences."""  # And more.'
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    assert judge(Text(tmp_path / "changed"), Found.of(Text(small))) == []


def test_a_wheel_is_judged_as_a_folder_is(small: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "vllm-9.9.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in small.rglob("*.py"):
            archive.write(path, str(path.relative_to(small)))
    assert judge(Text(wheel), Found.of(Text(small))) == []


def test_a_place_without_vllm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no vllm"):
        Text(tmp_path)


# -- the same table, where an engine starts -------------------------------------------------------------------------


def test_an_unfit_vllm_is_refused_with_the_list_of_what_is_missing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R36: `KVLEASE_ANY_VLLM` does not help: it says that a version may be tried, not that it fits."""
    import importlib
    import sys

    shutil.copytree(small, tmp_path / "unfit")
    (tmp_path / "unfit/vllm/__init__.py").write_text('__version__ = "0.99.0"\n')
    worker = tmp_path / "unfit" / WORKER_FILE
    code = worker.read_text().replace("def _pop_done_transfers", "def _pop").replace("self.tp_mappings = 0;", "")
    worker.write_text(code.replace("def register_kv_caches(self, kv_caches)", "def register_kv_caches(self, caches)"))
    hidden = [name for name in sys.modules if name == "vllm" or name.startswith("vllm.")]
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "unfit"))
    monkeypatch.setenv("KVLEASE_ANY_VLLM", "1")
    importlib.invalidate_caches()
    try:
        with pytest.raises(UnsupportedEngine) as refused:
            surface.check()
    finally:
        for name in [name for name in sys.modules if name == "vllm" or name.startswith("vllm.")]:
            del sys.modules[name]
    said = str(refused.value)
    assert "this is vLLM 0.99.0" in said
    for lacking in (
        "_pop_done_transfers is missing",
        "sets no tp_mappings",
        "takes (self caches) and not (self kv_caches)",
    ):
        assert lacking in said
