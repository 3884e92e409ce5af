"""Whatever somebody has written is looked at, or refused with a sentence: no configuration ends in a traceback."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.console.commands import BadArguments
from kvlease.doctor.findings import examine
from kvlease.doctor.reading import read
from kvlease.doctor.table import TABLE

WORDS = (
    *("containers", "args", "command", "env", "name", "value", "valueFrom", "kind", "metadata", "spec", "items"),
    *("lifecycle", "preStop", "exec", "httpGet", "sleep", "seconds", "path", "terminationGracePeriodSeconds"),
    *("hostNetwork", "kv_transfer_config", "kv-transfer-config", "engine_kwargs", "kv_connector", "kv_role"),
    *("kv_connector_extra_config", "kv_connector_module_path", "connectors", "kv_lease_duration", "port"),
    *("kv_lease_compare_media", "kv_load_failure_policy", "pipeline_parallel_size"),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**6),
    st.floats(allow_nan=False),
    st.sampled_from([*WORDS, "kv_producer", "kv_both", "LeasedNixlConnector", "NixlConnector", "MultiConnector"]),
    st.sampled_from(["vllm serve m --kv-transfer-config {}", "--port", "-tp", "x", "--kv-transfer-config", "{", "[]"]),
    st.text(max_size=8),
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(WORDS), below, max_size=5),
    max_leaves=25,
)
ENGINES = st.fixed_dictionaries({"kv_connector": st.sampled_from(["LeasedNixlConnector", "NixlConnector"])}).flatmap(
    lambda fixed: st.dictionaries(st.sampled_from(WORDS), TREES, max_size=6).map(lambda more: more | fixed)
)


def look(text: str) -> None:
    try:
        setups = read(text, {})
    except BadArguments:
        return
    found = [finding for one in setups for finding in examine(TABLE["a configuration"], one, one.name)]
    found += examine(TABLE["configurations together"], setups, "all")
    assert all(finding.found and finding.change for finding in found)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=5) | ENGINES)
def test_any_tree_is_looked_at_or_refused(tree: Any) -> None:
    look(json.dumps(tree))


@settings(max_examples=60, deadline=None)
@given(st.lists(LEAVES.map(str), max_size=12))
def test_any_command_line_is_looked_at_or_refused(words: list[str]) -> None:
    look(" ".join(["vllm serve", *words]))
