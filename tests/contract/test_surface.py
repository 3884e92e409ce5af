"""`surface.py` is the only place that lists what vLLM must have (R36): all that kvlease uses of it stands there.

The tests look in kvlease's own text, so no vLLM is needed. They tell vLLM's own by where it is imported from, and by
the names that vLLM's objects go by in `src/kvlease/vllm`.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from kvlease.vllm import surface
from kvlease.vllm.surface import ATTRIBUTES, PLACES
from kvlease.vllm.text import Text
from tests.contract.installed import folders

ROOM = Path(surface.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in sorted(ROOM.glob("*.py")) if path.stem != "surface"}
WHERES = [place.where for place in PLACES]

EXTENDED: dict[str, tuple[str, ...]] = {
    "LeasedNixlConnector": (surface.PULL_CONNECTOR, surface.CONNECTOR, surface.BASE),
    "LeasedScheduler": (surface.PULL_SCHEDULER, surface.SCHEDULER),
    "LeasedWorker": (surface.PULL_WORKER, surface.WORKER),
    "LeasedMetadata": (surface.METADATA,),
    "LeasedHandshakePayload": (surface.HANDSHAKE,),
    "LeasedWorkerReport": (surface.WORKER_META,),
    "LeaseStats": (surface.STATS, surface.ANY_STATS),
    "LeasePromMetrics": (surface.PROM, surface.ANY_PROM),
}
"""kvlease's classes that extend vLLM's, and the classes of vLLM that each one extends."""
OWN: dict[str, set[str]] = {
    "LeasedScheduler": {"_lease"},
    "LeasedWorker": {"_lease"},
    "LeasedHandshakePayload": {"fence_base", "fence_slots", "fence_place"},
    "LeasedMetadata": {"kv_lease"},
    "LeasedWorkerReport": {"report"},
    "LeasePromMetrics": {"_lease_metrics"},
}
"""The attributes that kvlease keeps on vLLM's objects: one of each half."""
KNOWN_AS: dict[str, tuple[str, ...]] = {
    "worker": EXTENDED["LeasedWorker"],
    "self._worker": EXTENDED["LeasedWorker"],
    "self.worker": EXTENDED["LeasedWorker"],
    "metadata": (surface.METADATA, "LeasedMetadata"),
    "self.metadata": (surface.METADATA,),
    "meta": (f"{surface.NIXL}.metadata:ReqMeta",),
    "meta.remote": (f"{surface.NIXL}.metadata:RemoteMeta",),
    "remote": (f"{surface.NIXL}.metadata:RemoteMeta",),
    "theirs": (f"{surface.UTILS}:EngineTransferInfo",),
    "worker.transfer_topo": (f"{surface.UTILS}:TransferTopology",),
    "request": (surface.REQUEST,),
    "adapter": ("vllm.lora.request:LoRARequest",),
    "item": ("vllm.multimodal.inputs:MultiModalFeatureSpec",),
    "item.data": ("vllm.multimodal.inputs:MultiModalKwargsItem",),
    "place": ("vllm.multimodal.inputs:PlaceholderRange",),
    "stock": (surface.HANDSHAKE, surface.METADATA),
    "payload": (surface.HANDSHAKE, "LeasedHandshakePayload"),
    "results": (f"{surface.V1}.base:KVConnectorTransferResults",),
    "connector_output": ("vllm.v1.outputs:KVConnectorOutput",),
    "vllm_config": ("vllm.config.vllm:VllmConfig",),
    "self.vllm_config": ("vllm.config.vllm:VllmConfig",),
    "transfer": ("vllm.config.kv_transfer:KVTransferConfig",),
    "vllm_config.kv_transfer_config": ("vllm.config.kv_transfer:KVTransferConfig",),
    "vllm_config.model_config": ("vllm.config.model:ModelConfig",),
    "vllm_config.parallel_config": ("vllm.config.parallel:ParallelConfig",),
    "kv_cache_config": (surface.CACHE,),
    "tensor": (surface.TENSOR,),
    "self.kv_cache_config": (surface.CACHE,),
    "pool": (surface.POOL,),
    "self._pool": (surface.POOL,),
    "gpu_block_pool": (surface.POOL,),
    "block": (surface.BLOCK,),
    "self._core": (surface.ENGINE,),
    "KVConnectorFactory": (surface.FACTORY,),
    "KVConnectorRole": (f"{surface.V1}.base:KVConnectorRole",),
    "VllmConfig": ("vllm.config.vllm:VllmConfig",),
    "MultiModalHasher": ("vllm.multimodal.hasher:MultiModalHasher",),
    "NixlPullConnectorWorker": EXTENDED["LeasedWorker"],
}
"""The names that vLLM's objects go by in this room, everywhere."""
NOT_VLLMS = {
    "compat: theirs.handlers",
    "compat: theirs.level",
    "compat: theirs.propagate",
    "in_worker: payload.split",
    "metrics: theirs.pop",
    "in_scheduler: metadata.items",
    # vLLM has it since 0.33. kvlease writes it, and looks for it first.
    "in_worker: meta.remote.registration_generation",
}
RELIED_ON = {
    "set_xfer_handshake_metadata_pp_aware": "it hands the workers' handshakes on, by their ranks",
    "_invoke_utility_method": "the answer to a utility call may be a future",
    "failed_recving": "a load that has failed is told apart from one that is done",
}
"""The parts of vLLM that kvlease relies on without naming them."""
OF_LATER_MINORS = {"supports_sleep_mode": "since 0.33; an engine that is not asked has other ways to be refused"}
"""The methods that kvlease overrides and does not need: earlier minors have nothing of the name."""


@cache
def listed(kinds: tuple[str, ...]) -> frozenset[str]:
    """The names that the table lists for these classes, and those that kvlease adds, where a class is kvlease's."""
    names = {where.removeprefix(f"{kind}.") for kind in kinds for where in WHERES if where.startswith(f"{kind}.")}
    for kind in kinds:
        names |= set(ATTRIBUTES.get(kind, "").split()) | OWN.get(kind, set()) | methods_of(kind)
    return frozenset(names)


@cache
def classes() -> Sequence[ast.ClassDef]:
    nodes = (node for module in MODULES.values() for node in ast.walk(module))
    return [node for node in nodes if isinstance(node, ast.ClassDef)]


@cache
def methods_of(name: str) -> frozenset[str]:
    """The methods that this class of kvlease defines; none for a class of vLLM."""
    bodies = [kind.body for kind in classes() if kind.name == name]
    return frozenset(node.name for body in bodies for node in body if isinstance(node, ast.FunctionDef))


def runs(module: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that are for type checkers alone."""
    for node in ast.iter_child_nodes(module):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from runs(node)


def test_every_import_of_vllm_is_in_the_table() -> None:
    unlisted = []
    for name, module in MODULES.items():
        for node in runs(module):
            if isinstance(node, ast.Import):
                unlisted += [f"{name}: {a.name}" for a in node.names if a.name.startswith("vllm.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vllm":
                wheres = [f"{node.module}:{alias.name}" for alias in node.names]
                unlisted += [
                    f"{name}: {w}"
                    for w in wheres
                    if not any(f"{x}.".startswith(f"{w}.") for x in (*WHERES, *ATTRIBUTES))
                ]
    assert not unlisted, "\n".join(unlisted)


def test_every_class_that_extends_one_of_vllms_is_known_here() -> None:
    compat = {alias.name for node in MODULES["compat"].body if isinstance(node, ast.ImportFrom) for alias in node.names}
    found = {kind.name for kind in classes() if {ast.unparse(base) for base in kind.bases} & compat}
    assert found == EXTENDED.keys()


def _used(kind: ast.ClassDef) -> Iterator[str]:
    """The attributes that a class uses of itself and of the classes that it extends."""
    for node in ast.walk(kind):
        if isinstance(node, ast.Attribute) and (
            ast.unparse(node.value) in ("self", "cls") or ast.unparse(node.value).startswith("super(")
        ):
            yield node.attr


@pytest.mark.parametrize("name", EXTENDED)
def test_what_a_half_uses_of_vllms_is_in_the_table_and_it_keeps_one_attribute(name: str) -> None:
    (kind,) = [kind for kind in classes() if kind.name == name]
    allowed = listed(EXTENDED[name]) | OWN.get(name, set()) | methods_of(name) | {"__init__", "__new__"}
    assert set(_used(kind)) - allowed == set()


def test_what_is_used_of_vllms_objects_is_in_the_table() -> None:
    unlisted = set()
    for name, module in MODULES.items():
        for node in runs(module):
            if not isinstance(node, ast.Attribute):
                continue
            owner = ast.unparse(node.value)
            if owner in KNOWN_AS and not node.attr.startswith("__") and node.attr not in listed(KNOWN_AS[owner]):
                unlisted.add(f"{name}: {owner}.{node.attr}")
    assert unlisted >= NOT_VLLMS, "an exception that nothing needs any more"
    unlisted -= NOT_VLLMS
    assert not unlisted, "\n".join(sorted(unlisted))


def test_no_private_name_is_used_of_what_nobody_knows() -> None:
    """R36: no private name is used that neither the table nor kvlease has, whatever the object is called."""
    table = {where.rpartition(".")[2] for where in WHERES} | {n for ns in ATTRIBUTES.values() for n in ns.split()}
    table |= {name for names in OWN.values() for name in names}
    unlisted = set()
    for name, module in MODULES.items():
        for node in runs(module):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                ours = ast.unparse(node.value) in ("self", "cls") or ast.unparse(node.value) in KNOWN_AS
                if not ours and node.attr not in table:
                    unlisted.add(f"{name}: {ast.unparse(node)}")
    assert not unlisted, "\n".join(sorted(unlisted))


def _words(module: ast.AST) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case (
                ast.Attribute(attr=word)
                | ast.Name(id=word)
                | ast.FunctionDef(name=word)
                | ast.AsyncFunctionDef(name=word)
                | ast.alias(name=word)
            ):
                yield word


def test_every_line_of_the_table_is_used() -> None:
    words = {word for module in MODULES.values() for word in _words(module)} | {"__init__", "__post_init__"}
    lines = {where: where.rpartition(":")[2].rpartition(".")[2] for where in WHERES}
    lines |= {f"{where}: {name}": name for where, names in ATTRIBUTES.items() for name in names.split()}
    unused = [line for line, word in lines.items() if word not in words | RELIED_ON.keys()]
    assert not unused, "\n".join(unused)


@pytest.mark.parametrize("minor", folders() or [pytest.param("", marks=pytest.mark.skip(reason="no vLLM is here"))])
def test_every_method_that_takes_the_place_of_vllms_is_in_the_table(minor: str) -> None:
    text = Text(folders()[minor])
    hidden = {
        f"{kind}.{name}"
        for ours, kinds in EXTENDED.items()
        for kind in kinds
        for name in methods_of(ours) - OF_LATER_MINORS.keys()
        if text.find(f"{kind}.{name}") is not None and not any(f"{each}.{name}" in WHERES for each in kinds)
    }
    assert not hidden, "\n".join(sorted(hidden))
