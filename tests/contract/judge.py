"""The parts of vLLM that kvlease depends on, found in a vLLM's text and compared with what was accepted (R36).

missing, different: what kvlease calls or overrides is not there, or is called otherwise: it does not run.
new, gone: a set that must not change unseen did: somebody decides.
broken: a rule that the fence stands on does not hold: kvlease is not safe with it.
changed: a function that kvlease overrides, or whose inside it relies on, has another body: somebody reads it.
"""

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kvlease.vllm.surface import (
    BASE,
    CONNECTOR,
    NIXL,
    PULL_CONNECTOR,
    PULL_SCHEDULER,
    PULL_WORKER,
    SCHEDULER,
    WORKER,
)
from kvlease.vllm.text import Text, lacking
from tests.contract.allocations import POOL, deeds, untold
from tests.contract.digests import digest

ACCEPTED = Path(__file__).with_name("accepted")
SCHED = "vllm.v1.core.sched.scheduler:Scheduler"
BLOCKS = "vllm.v1.core.single_type_kv_cache_manager:SingleTypeKVCacheManager"
MAMBA = "vllm.v1.core.single_type_kv_cache_manager:MambaManager"
ENGINE = "vllm.v1.engine.core:EngineCore"
ENGINE_PROC = "vllm.v1.engine.core:EngineCoreProc"
DP_ENGINE_PROC = "vllm.v1.engine.core:DPEngineCoreProc"
MULTI = "vllm.distributed.kv_transfer.kv_connector.v1.multi_connector:MultiConnector"


def _of(kind: str, names: str) -> list[str]:
    return [f"{kind}.{name}" for name in names.split()]


BODIES: tuple[str, ...] = (
    *_of(SCHEDULER, "set_xfer_handshake_metadata _nixl_handshake_listener on_new_request build_connector_meta"),
    *_of(SCHEDULER, "update_connector_output shutdown _truncate_request_for_prefill"),
    *_of(PULL_SCHEDULER, "update_state_after_alloc request_finished get_num_new_matched_tokens"),
    *_of(WORKER, "get_transfer_results _handle_heartbeat _pop_done_transfers _ensure_handshake shutdown"),
    *_of(WORKER, "_background_nixl_handshake _cleanup_remote_engine _send_heartbeats _send_pending_recv_notifs"),
    *_of(WORKER, "_engines_with_inflight_transfers"),
    *_of(PULL_WORKER, "start_load_kv _read_blocks_for_req _read_blocks _get_new_notifs"),
    *_of(CONNECTOR, "__init__ get_transfer_results get_handshake_metadata shutdown"),
    *_of(PULL_CONNECTOR, "__init__"),
    *_of(f"{NIXL}.stats:NixlKVConnectorStats", "aggregate is_empty reset"),
    *_of(f"{NIXL}.stats:NixlPromMetrics", "observe"),
    *_of(SCHED, "_connector_finished _update_from_kv_xfer_finished _handle_failed_recving finish_requests"),
    *_of(SCHED, "_free_request has_finished_requests has_requests _update_waiting_for_remote_kv"),
    # They say who has a block, who is told of it, and when (S2); and where a connector's answers go.
    *_of(POOL, "get_new_blocks _notify_reuse unpin_blocks touch free_blocks reset_prefix_cache"),
    *_of(BLOCKS, "add_local_computed_blocks allocate_external_computed_blocks allocate_new_blocks _apply_cow"),
    *_of(MAMBA, "allocate_new_blocks _relocate_speculative_block"),
    *_of(SCHED, "reset_prefix_cache reset_connector_cache _free_request_blocks _drain_deferred_frees"),
    *_of(ENGINE, "_reset_caches _finish_pause sleep release_kv_cache_memory step"),
    *_of(ENGINE_PROC, "__init__ has_work _process_input_queue _process_engine_step _handle_shutdown pause_scheduler"),
    *_of(ENGINE_PROC, "_handle_client_request run_busy_loop"),
    *_of(DP_ENGINE_PROC, "_handle_client_request run_busy_loop _pause_complete"),
    *_of(MULTI, "bind_kv_cache_manager has_pending_push_work has_pending_block_frees reset_cache"),
    *_of(MULTI, "get_num_new_matched_tokens get_transfer_results _aggregate_request_finished"),
    "vllm.distributed.kv_transfer.kv_connector.utils:KVOutputAggregator.aggregate",
    "vllm.distributed.kv_transfer.kv_connector.factory:KVConnectorFactory.get_connector_class",
    "vllm.v1.outputs:KVConnectorOutput.is_empty",
    # vLLM asks it for connectors by name, and kvlease answers (vllm/plugin.py).
    "vllm.config.kv_transfer:KVTransferConfig.has_connector",
    # They decide what a prompt's KV cache depends on, and which prompt of a list gets a reference (vllm/prompts.py).
    "vllm.v1.core.kv_cache_utils:generate_block_hash_extra_keys",
    "vllm.v1.core.kv_cache_utils:_gen_lora_extra_hash_keys",
    "vllm.v1.core.kv_cache_utils:_gen_mm_extra_hash_keys",
    "vllm.v1.core.kv_cache_utils:_gen_prompt_embeds_extra_hash_keys",
    "vllm.renderers.base:BaseRenderer._process_mm_uuids",
    "vllm.renderers.base:BaseRenderer._process_multimodal",
    "vllm.entrypoints.openai.completion.serving:OpenAIServingCompletion.create_completion",
    "vllm.entrypoints.openai.completion.serving:OpenAIServingCompletion.request_output_to_completion_response",
)


@dataclass(frozen=True)
class Statement:
    """One line of the work list."""

    kind: str
    what: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind:9} {self.what}" + (f"  ({self.where})" if self.where else "")


@dataclass(frozen=True)
class Found:
    """The parts of a vLLM's text that somebody accepts by hand: closed sets, and the digests of bodies."""

    sets: dict[str, list[str]]
    bodies: dict[str, str]

    @classmethod
    def of(cls, text: Text) -> "Found":
        bodies = {where: digest(node) for where in BODIES if (node := text.find(where)) is not None}
        return cls({name: sorted(look(text)) for name, look in SETS.items()}, bodies)

    @classmethod
    def accepted(cls, minor: str) -> "Found":
        stored = json.loads((ACCEPTED / f"{minor}.json").read_text())
        return cls(stored["sets"], stored["bodies"])

    def accept(self, minor: str) -> None:
        written = json.dumps({"sets": self.sets, "bodies": self.bodies}, indent=1)
        (ACCEPTED / f"{minor}.json").write_text(written + "\n")


def accepted_minors() -> list[str]:
    """The minors that were accepted, oldest first."""
    return sorted((path.stem for path in ACCEPTED.glob("*.json")), key=lambda m: tuple(map(int, m.split("."))))


def judge(text: Text, known: Found) -> list[Statement]:
    """Every difference between this vLLM and what is known."""
    found = Found.of(text)
    return [*_surface(text), *_rules(text), *_compare_sets(found, known), *_compare_bodies(text, found, known)]


def _surface(text: Text) -> Iterator[Statement]:
    yield from (Statement(*lack) for lack in lacking(text))


def _rules(text: Text) -> Iterator[Statement]:
    if (why := untold(text)) is not None:
        yield Statement("broken", why, text.line_of(f"{POOL}.get_new_blocks"))


def _compare_sets(found: Found, known: Found) -> Iterator[Statement]:
    for name, members in found.sets.items():
        before = set(known.sets.get(name, ()))
        yield from (Statement("new", f"{name}: {member}") for member in members if member not in before)
        yield from (Statement("gone", f"{name}: {member}") for member in sorted(before - set(members)))


def _compare_bodies(text: Text, found: Found, known: Found) -> Iterator[Statement]:
    for where in BODIES:
        if where not in found.bodies:
            # A function that this minor never had is not missing.
            if where in known.bodies:
                yield Statement("missing", where)
        elif found.bodies[where] != known.bodies.get(where):
            yield Statement("changed", where, text.line_of(where))


# -- sets that must not change unseen -------------------------------------------------------------------------------


def _fields(where: str) -> Callable[[Text], set[str]]:
    def look(text: Text) -> set[str]:
        kind = text.find(where)
        nodes = ast.iter_child_nodes(kind) if kind is not None else ()
        return {n.target.id for n in nodes if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}

    return look


def _methods(where: str) -> Callable[[Text], set[str]]:
    def look(text: Text) -> set[str]:
        kind = text.find(where)
        nodes = ast.iter_child_nodes(kind) if kind is not None else ()
        return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}

    return look


def _offered(text: Text) -> set[str]:
    """The keys of the `dict(...)` that a finished prefill returns."""
    function = text.find(f"{PULL_SCHEDULER}.request_finished")
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)] if function is not None else []
    return {k.arg for call in calls if getattr(call.func, "id", "") == "dict" for k in call.keywords if k.arg}


def _read_params(text: Text) -> set[str]:
    """The keys of `kv_transfer_params` that the connector looks at: clients write them."""
    folder = NIXL.replace(".", "/") + "/"
    found = set()
    for name in sorted(text.names):
        tree = text.file(name) if name.startswith(folder) else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                owner, key = node.func.value, node.args[0] if node.args else None
            elif isinstance(node, ast.Subscript):
                owner, key = node.value, node.slice
            else:
                continue
            named = getattr(owner, "id", getattr(owner, "attr", "")) in ("params", "kv_transfer_params")
            if named and isinstance(key, ast.Constant) and isinstance(key.value, str):
                found.add(key.value)
    return found


def _knowing_the_name(text: Text) -> set[str]:
    """The functions outside of the connectors that know NixlConnector by name (R37)."""
    found: set[str] = set()
    for name in sorted(text.names):
        if "/kv_connector/" in name or '"NixlConnector"' not in (code := text.read(name)):
            continue
        found |= {f"{name}: {owner}" for owner in _owners(ast.parse(code), "")}
    return found


def _owners(node: ast.AST, inside: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Constant) and child.value == "NixlConnector":
            yield inside
        named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        yield from _owners(child, f"{inside}.{child.name}".lstrip(".") if named else inside)  # type: ignore[attr-defined]


SETS: dict[str, Callable[[Text], set[str]]] = {
    "fields of NixlHandshakePayload": _fields(f"{NIXL}.metadata:NixlHandshakePayload"),
    "fields of RemoteMeta": _fields(f"{NIXL}.metadata:RemoteMeta"),
    "kv_transfer_params of an offer": _offered,
    "kv_transfer_params that are read": _read_params,
    "hooks of KVConnectorBase_V1": _methods(BASE),
    "methods of NixlPullConnector": _methods(PULL_CONNECTOR),
    "functions that know NixlConnector by name": _knowing_the_name,
    "deeds on free blocks, references and watchers": deeds,
}
