"""R37: whatever name kvlease goes by, and whatever stands beside it, reads are fenced, right, and shown on /metrics."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.realengines.pairs import TERM_S, Pair, consumer, producer, running_pair

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(300)]

MODULE = {"kv_connector_module_path": "kvlease.vllm"}
NO_PLUGINS = {"VLLM_PLUGINS": ""}
REPLACES = {"KVLEASE_REPLACES_NIXL": "1"}


def leased(role: str, name: str, **settings: str) -> dict[str, Any]:
    extra = {"kv_lease_duration": TERM_S}
    return {
        "kv_connector": name,
        "kv_role": role,
        "kv_buffer_device": "cpu",
        "kv_connector_extra_config": extra,
        **settings,
    }


def beside(role: str, folder: Path) -> dict[str, Any]:
    """The settings of vLLM's connector that keeps every prompt in files: it saves layer by layer, and loads its own."""
    extra = {"shared_storage_path": str(folder)}
    return {"kv_connector": "ExampleConnector", "kv_role": role, "kv_connector_extra_config": extra}


def multi(*children: Mapping[str, Any]) -> dict[str, Any]:
    return {"kv_connector": "MultiConnector", "kv_connector_extra_config": {"connectors": list(children)}}


def pair_of(model: Path, logs: Path, p: dict[str, Any], d: dict[str, Any]) -> Iterator[Pair]:
    return running_pair(producer(model, connector="stock", **p), consumer(model, connector="stock", **d), logs)


@pytest.fixture(scope="module")
def stock_name(model: Path, logs: Path) -> Iterator[Pair]:
    """A pair: P has stock's name and kvlease's module, D stock's configuration where kvlease replaces stock."""
    p = {"name": "P-module", "transfer": MODULE, "extra_env": NO_PLUGINS}
    yield from pair_of(model, logs, p, {"name": "D-replaces", "extra_env": REPLACES})


@pytest.fixture(scope="module")
def children(model: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair: P has the leased name by the plugin, first of two; D has it by its module, second, without plugins."""
    p_files, d_files = (tmp_path_factory.mktemp(name) for name in ("p-files", "d-files"))
    first = multi(leased("kv_producer", "LeasedNixlConnector"), beside("kv_producer", p_files))
    second = multi(beside("kv_consumer", d_files), leased("kv_consumer", "LeasedNixlConnector", **MODULE))
    p = {"name": "P-first", "transfer": first}
    yield from pair_of(model, logs, p, {"name": "D-second", "transfer": second, "extra_env": NO_PLUGINS})


def test_the_engine_says_once_that_kvlease_is_in_stocks_place(stock_name: Pair) -> None:
    said = "KVLEASE_REPLACES_NIXL=1: vLLM's NixlConnector is kvlease's in this engine"
    assert stock_name.d.log_path.read_text(errors="replace").count(said) == 1
    assert said not in stock_name.p.log_path.read_text(errors="replace")


@pytest.mark.parametrize("which", ["stock_name", "children"])
def test_reads_are_fenced_and_right(which: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(which)
    pair.read_fresh(seed=61)
    pair.read_late(seed=62)
