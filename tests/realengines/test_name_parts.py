"""R37: each place that looks at the connector's name, with vLLM imported but no engine running."""

import copy
import os
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from kvlease.errors import ConfigError, UnsupportedEngine

pytestmark = [pytest.mark.engine, pytest.mark.essential]

LAYOUT = "VLLM_SSM_CONV_STATE_LAYOUT"
MODULE = "kvlease.vllm"
NAMES = ("LeasedNixlConnector", "NixlConnector", "NixlPullConnector")


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Undoes what a test writes: vLLM's configuration into the environment, kvlease's plugin into vLLM's classes."""
    from vllm.config import VllmConfig
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    # Importing NIXL sets variables once, which stay: so it happens before the environment is kept.
    import kvlease.vllm.compat  # noqa: F401

    decide = VllmConfig.__post_init__
    with mock.patch.dict(os.environ), mock.patch.dict(KVConnectorFactory._registry):
        os.environ.pop(LAYOUT, None)
        os.environ.pop("KVLEASE_REPLACES_NIXL", None)
        yield
    VllmConfig.__post_init__ = decide


def transfer(name: str, module: str | None = None, **settings: Any) -> Any:
    from vllm.config import KVTransferConfig

    return KVTransferConfig(kv_connector=name, kv_role="kv_both", kv_connector_module_path=module, **settings)


def child(name: str, module: str | None = None) -> dict[str, Any]:
    settings = {"kv_connector": name, "kv_role": "kv_both"}
    return settings | ({"kv_connector_module_path": module} if module else {})


def multi(*children: dict[str, Any]) -> Any:
    return transfer("MultiConnector", kv_connector_extra_config={"connectors": list(children)})


def config_with(transfer: Any) -> Any:
    from vllm.config import VllmConfig

    return VllmConfig(kv_transfer_config=transfer)


def class_of(transfer: Any) -> type:
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    found: type = KVConnectorFactory.get_connector_class(transfer)
    return found


def forget_kvlease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process one with `VLLM_PLUGINS=""`, in which the connector is not imported yet."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    KVConnectorFactory._registry.pop(NAMES[0], None)
    monkeypatch.delitem(sys.modules, "kvlease.vllm.connector", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_under_every_name_the_module_gives_the_leased_connector(name: str) -> None:
    """R37: the factory takes the module before its registry. All names are one class: its name files the statistics."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    from kvlease.vllm import LeasedNixlConnector

    assert class_of(transfer(name, MODULE)) is LeasedNixlConnector
    assert LeasedNixlConnector.__name__ == NAMES[0]
    assert KVConnectorFactory.supports_hma_config(transfer(name, MODULE))
    assert KVConnectorFactory.supports_hma_config(multi(child(name, MODULE)))


def test_push_mode_has_no_leased_connector() -> None:
    with pytest.raises(AttributeError, match=r"NixlPushConnector not found in kvlease\.vllm") as refusal:
        class_of(transfer("NixlPushConnector", MODULE))
    assert "connectors here are LeasedNixlConnector, NixlConnector" in str(refusal.value.__cause__)


@pytest.mark.parametrize("said", ["", "0", None])
def test_stocks_names_are_stocks_own(said: str | None) -> None:
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector

    from kvlease.vllm.plugin import register

    if said is not None:
        os.environ["KVLEASE_REPLACES_NIXL"] = said
    register()
    assert class_of(transfer("NixlConnector")) is class_of(transfer("NixlPullConnector")) is NixlPullConnector


def test_kvlease_takes_the_place_of_stocks_names_where_it_is_told_to() -> None:
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector, NixlPushConnector

    from kvlease.vllm import LeasedNixlConnector
    from kvlease.vllm.plugin import register

    os.environ["KVLEASE_REPLACES_NIXL"] = "1"
    register()
    register()
    assert class_of(transfer("NixlConnector")) is class_of(transfer("NixlPullConnector")) is LeasedNixlConnector
    # kvlease leaves push connectors alone, and whoever names stock's module has chosen stock.
    assert class_of(transfer("NixlPushConnector")) is NixlPushConnector
    assert class_of(transfer("NixlConnector", NixlPullConnector.__module__)) is NixlPullConnector


def test_a_configuration_carries_the_choice_to_where_the_environment_does_not_reach() -> None:
    """R37: vLLM hands Ray's workers the configuration, but only those variables of the environment that it knows."""
    from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlPullConnector

    from kvlease.vllm import LeasedNixlConnector
    from kvlease.vllm.plugin import register

    os.environ["KVLEASE_REPLACES_NIXL"] = "1"
    register()
    stocks = NixlPullConnector.__module__
    plain, own = config_with(transfer("NixlConnector")), config_with(transfer("NixlConnector", stocks))
    several = config_with(multi(child("NixlConnector"), child("NixlConnector", stocks), child("NixlPushConnector")))
    del os.environ["KVLEASE_REPLACES_NIXL"]
    assert class_of(plain.kv_transfer_config) is LeasedNixlConnector
    assert own.kv_transfer_config.kv_connector_module_path == stocks
    children = several.kv_transfer_config.kv_connector_extra_config["connectors"]
    assert [each.get("kv_connector_module_path") for each in children] == [MODULE, stocks, None]


@pytest.mark.parametrize("value", ["yes", "true", "2", " 1"])
def test_a_value_that_says_nothing_is_refused(value: str) -> None:
    from kvlease.vllm.plugin import register

    os.environ["KVLEASE_REPLACES_NIXL"] = value
    with pytest.raises(ConfigError, match=rf"KVLEASE_REPLACES_NIXL is '{value}', it must be 1 .*or 0"):
        register()


@pytest.mark.parametrize("name", NAMES)
def test_without_plugins_the_connector_makes_itself_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R37, vllm 57683: the API server rebuilds the statistics of MultiConnector's children through the registry."""
    from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector

    forget_kvlease(monkeypatch)
    leased = class_of(transfer(name, MODULE))
    stats: Any = leased.build_kv_connector_stats()  # type: ignore[attr-defined]
    stats.count("grants", "", 3)
    sent = {leased.__name__: stats.to_dict()}
    one, two = (MultiConnector.build_kv_connector_stats(copy.deepcopy(sent)) for _ in range(2))
    assert one.aggregate(two).reduce()[leased.__name__]["kvlease grants"] == 6


class Shown:
    """A stand-in for a metric of Prometheus, as far as vLLM and kvlease use it."""

    found: dict[str, float]

    def __init__(self, name: str, **_: Any) -> None:
        self._name = name

    def labels(self, *_: Any, **__: Any) -> "Shown":
        return self

    def inc(self, amount: float = 1) -> None:
        self.found[self._name] = self.found.get(self._name, 0) + amount

    def set(self, value: float) -> None:
        self.found[self._name] = value

    observe = set


@pytest.mark.parametrize("name", NAMES)
def test_a_childs_statistics_are_shown_under_any_name(name: str) -> None:
    """R37: the engine files a child's statistics by its class's name, and the API server finds them by it."""
    from prometheus_client import Counter, Gauge, Histogram
    from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector

    from kvlease.vllm import LeasedNixlConnector

    Shown.found = {}
    config = SimpleNamespace(kv_transfer_config=multi(child(name, MODULE), child("ExampleConnector")))
    kinds = dict.fromkeys((Counter, Gauge, Histogram), Shown)
    shown = MultiConnector.build_prom_metrics(config, kinds, ["engine"], {0: ["0"]})
    stats = LeasedNixlConnector.build_kv_connector_stats()
    stats.count("grants", "", 2)
    # An engine sends the connectors' own statistics, by the names of their classes.
    connector = MultiConnector.__new__(MultiConnector)
    half = LeasedNixlConnector.__new__(LeasedNixlConnector)
    half.connector_scheduler = SimpleNamespace(step_ended=lambda: stats)  # type: ignore[assignment]
    connector._connectors = [half]
    shown.observe(connector.get_kv_connector_stats().to_dict())
    assert Shown.found["kvlease:grants"] == 2


def state_layout(transfer: Any) -> Any:
    """The layout that vLLM sets for Mamba's state on a CPU; None where it sets none."""
    config_with(transfer)
    return os.environ.get(LAYOUT)


def routed_experts(transfer: Any) -> Any:
    """The error by which vLLM refuses to return routed experts beside this connector; None where it does not."""
    config = config_with(transfer)
    verify = getattr(config, "_verify_aux_output_compatibility", None)
    if verify is None:
        pytest.skip("before 0.31 vLLM refuses routed experts with any connector")
    config.aux_output_config = SimpleNamespace(enabled=True, enable_return_routed_experts=True)
    try:
        verify()
    except ValueError as error:
        return str(error)
    return None


def asked(transfer: Any) -> Any:
    """The answers to those who ask whether the connector is NIXL: context parallelism, HiSparse, Step5, Dynamo."""
    config = config_with(transfer).kv_transfer_config
    return config.has_connector("NixlConnector"), config.kv_connector


@pytest.mark.parametrize("decide", [state_layout, routed_experts, asked])
@pytest.mark.parametrize("module", [MODULE, None])
@pytest.mark.parametrize("around", [transfer, lambda *names: multi(child("ExampleConnector"), child(*names))])
def test_what_vllm_decides_by_name_is_decided_as_for_stock(
    decide: Callable[[Any], Any], module: str | None, around: Callable[..., Any]
) -> None:
    """R37: with the plugin, vLLM decides for `LeasedNixlConnector` as for stock, by itself and as a child."""
    from kvlease.vllm import LeasedNixlConnector
    from kvlease.vllm.plugin import register

    as_stock = decide(around("NixlConnector"))
    os.environ.pop(LAYOUT, None)
    register()
    leased = around("LeasedNixlConnector", module)
    assert decide(leased) == as_stock
    extra = leased.kv_connector_extra_config.get("connectors")
    assert class_of(transfer(extra[1]["kv_connector"], extra[1]["kv_connector_module_path"]) if extra else leased) is (
        LeasedNixlConnector
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", [None, "SD", "DS"])
@pytest.mark.parametrize("state", [True, False])
def test_mambas_state_without_the_plugin_is_refused_with_a_way_out(name: str, layout: str | None, state: bool) -> None:
    """R37: under the leased name alone nothing sets the layout then, and vLLM's own error does not say why."""
    from kvlease.vllm.plugin import refuse_unset_layout

    if layout is not None:
        os.environ[LAYOUT] = layout
    config = SimpleNamespace(
        kv_transfer_config=transfer(name, MODULE), model_config=SimpleNamespace(has_inner_state=state)
    )
    if name == NAMES[0] and layout != "DS" and state:
        with pytest.raises(UnsupportedEngine, match=r"VLLM_SSM_CONV_STATE_LAYOUT is .*VLLM_PLUGINS.*NixlConnector"):
            refuse_unset_layout(config)
    else:
        refuse_unset_layout(config)


def test_somebody_elses_connector_keeps_its_name() -> None:
    from kvlease.vllm.plugin import rename

    theirs = {"kv_connector": "LeasedNixlConnector", "kv_connector_module_path": "theirs"}
    stock = {"kv_connector": "NixlConnector", "kv_connector_extra_config": {"connectors": None}}
    for settings in (theirs, stock, {"kv_connector": None}):
        before = dict(settings)
        rename(settings)
        assert settings == before


def test_the_nixl_that_vllm_uses_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """R37: kvlease takes NIXL from vLLM, which sets UCX up before it imports it, and has another package on ROCm."""
    from vllm.distributed import nixl_utils

    from kvlease.errors import UnsupportedEngine
    from kvlease.vllm.compat import nixl_package

    assert nixl_package().startswith("nixl")
    assert os.environ.get("UCX_RCACHE_MAX_UNRELEASED")
    monkeypatch.setattr(nixl_utils, "NixlWrapper", type("nixl_agent", (), {"__module__": "nixl_rocm._api"}))
    assert nixl_package() == "nixl_rocm"
    monkeypatch.setattr(nixl_utils, "NixlWrapper", None)
    with pytest.raises(UnsupportedEngine, match="NIXL is not installed"):
        nixl_package()
