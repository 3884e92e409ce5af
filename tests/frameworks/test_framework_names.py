"""R37: frameworks that start vLLM look for "NixlConnector" by name, and find kvlease under it.

The tests ask the frameworks' own code, out of the wheels that `make frameworks` fetches; none of it is installed.
"""

import ast
import copy
import runpy
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kvlease.vllm.plugin import rename
from proof import ROOT

WHEELS = Path(sys.prefix) / "frameworks"

LEASED = {"kv_connector": "LeasedNixlConnector"}
AS_STOCK = {"kv_connector": "NixlConnector", "kv_connector_module_path": "kvlease.vllm"}
"""The settings that the guide says to write where a framework starts vLLM."""


def source(distribution: str, path: str) -> str:
    wheel = next(WHEELS.glob(f"{distribution}-*.whl"), None)
    if wheel is None:
        pytest.skip(f"{distribution} is not here: make frameworks fetches its wheel")
    with zipfile.ZipFile(wheel) as files:
        return files.read(path).decode()


def run(text: str, **known: Any) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "framework", **known}
    exec(compile(text, "framework", "exec"), names)
    return names


def function(text: str, name: str, **known: Any) -> Any:
    """One function out of the text of a module that cannot be imported here; `known`: the names that it refers to."""
    found = next(node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name)
    return run(ast.unparse(found), **known)[name]


def transfer(settings: dict[str, Any], around: str | None = None) -> Any:
    """vLLM's own settings, as far as frameworks look at them; those of a child if there is a connector `around`."""
    if around is not None:
        children = [{"kv_connector": "Another"}, dict(settings)]
        settings = {"kv_connector": around, "kv_connector_extra_config": {"connectors": children}}
    return SimpleNamespace(**{"engine_id": "P", "kv_connector_extra_config": {}, **settings})


@pytest.mark.parametrize("around", [None, "MultiConnector", "PdConnector"])
@pytest.mark.parametrize("settings", [AS_STOCK, LEASED])
def test_dynamo_hands_a_lease_over(settings: dict[str, Any], around: str | None) -> None:
    """R37: Dynamo hands P's answer to D unchanged, `kv_lease` included; under the leased name once vLLM has read it."""
    dynamo = run(source("ai_dynamo", "dynamo/vllm/kv_connector_protocols.py"))
    config = SimpleNamespace(kv_transfer_config=transfer(settings, around))
    if settings is LEASED:
        with pytest.raises(ValueError, match="LeasedNixlConnector"):
            dynamo["make_kv_connector_protocol"](config)
        rename(vars(config.kv_transfer_config))
    protocol = dynamo["make_kv_connector_protocol"](config)
    assert protocol.prefill_request_kv_transfer_params()["do_remote_decode"] is True
    offered = {"do_remote_prefill": True, "kv_lease": "a lease"}
    assert protocol.decode_request_kv_transfer_params(SimpleNamespace(kv_transfer_params=offered)) == offered


@pytest.mark.parametrize(("settings", "set_up"), [(AS_STOCK, True), (LEASED, False)])
@pytest.mark.parametrize("around", [None, "PdConnector"])
def test_dynamo_sets_the_side_channel_up_under_stocks_name(
    settings: dict[str, Any], set_up: bool, around: str | None
) -> None:
    """R37: Dynamo looks before vLLM reads the settings, so the leased name alone is not enough: the guide says so."""
    uses_nixl = function(source("ai_dynamo", "dynamo/vllm/args.py"), "_uses_nixl_connector", AsyncEngineArgs=object)
    assert uses_nixl(SimpleNamespace(kv_transfer_config=transfer(settings, around))) is set_up


class Registry(dict[str, str]):
    """A dict in the place of Ray's registry, which Ray's processes share."""

    register, contains = dict.__setitem__, dict.__contains__

    def get(self, name: str) -> str:  # type: ignore[override]
        if name not in self:
            raise ValueError(name)
        return self[name]


def test_ray_hands_a_lease_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray hands P's answer to D whole, and takes no `kv_transfer_params` of a client's."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=None))
    base = run(source("ray", "ray/llm/_internal/serve/engines/vllm/kv_transfer/base.py"))
    backend = base["DefaultConnectorBackend"](None)
    offered = {"do_remote_prefill": True, "kv_lease": {"token": "a lease"}}
    request = AskedOfRay()
    prefill = backend.prepare_prefill_request(request=request, peer=None)
    assert (prefill.kv_transfer_params["do_remote_decode"], prefill.max_tokens) == (True, 1)
    answer = SimpleNamespace(kv_transfer_params=offered)
    decode = backend.prepare_decode_request(request=request, peer=None, prefill_response=answer)
    assert decode.kv_transfer_params == offered
    request.kv_transfer_params = {"do_remote_prefill": True}
    with pytest.raises(AssertionError, match="should be empty"):
        backend.prepare_prefill_request(request=request, peer=None)


class AskedOfRay:
    """A request in the place of Ray's, which is a model of pydantic's."""

    def __init__(self) -> None:
        self.kv_transfer_params: dict[str, Any] | None = None
        self.max_tokens = 16
        self.stream = True

    def model_copy(self, *, deep: bool) -> "AskedOfRay":
        assert deep
        return copy.deepcopy(self)


@pytest.fixture
def ray_factory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray's own table of connectors, for one process."""
    inside = "ray.llm._internal.serve"
    logger = SimpleNamespace(warning=lambda _: None)
    registry = Registry()
    stubs: dict[str, dict[str, Any]] = {
        f"{inside}.engines.vllm.kv_transfer.base": {
            "BaseConnectorBackend": object,
            "DefaultConnectorBackend": type("nothing", (str,), {}),
        },
        f"{inside}.observability.logging": {"get_logger": lambda _: logger},
        f"{inside}.utils.registry": {"get_registry": lambda _: registry},
    }
    for name, contents in stubs.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    path = f"{inside}.engines.vllm.kv_transfer.factory"
    ray = run(source("ray", f"{path.replace('.', '/')}.py"))
    module = ModuleType(path)
    vars(module).update(ray)
    monkeypatch.setitem(sys.modules, path, module)
    return ray["KVConnectorBackendFactory"]


@pytest.mark.parametrize(("settings", "backend"), [(AS_STOCK, "nixl:NixlConnectorBackend"), (LEASED, "nothing")])
def test_ray_sets_ports_and_names_up_under_stocks_name(
    settings: dict[str, Any], backend: str, ray_factory: Any
) -> None:
    """R37: under another name Ray only warns, and its backend sets nothing up: replicas of a node share a port."""
    found = ray_factory.get_backend_class(settings["kv_connector"])
    assert str(getattr(found, "__name__", found)).endswith(backend)


def test_ray_can_be_told_of_the_leased_name(ray_factory: Any) -> None:
    """R37: the one line of the example gives kvlease's own name what stock's has."""
    runpy.run_path(str(ROOT / "examples/ray/cpu.py"))["register"]()
    assert ray_factory.get_backend_class("LeasedNixlConnector") == ray_factory.get_backend_class("NixlConnector")
