"""The processes that `kvlease up` decides to start, on machines with and without GPUs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvlease.up.machine import Host, found_devices
from kvlease.up.plan import Deployment, Launch, NotStartable, decide
from kvlease.up.wanted import Wanted

CPU = Host(cores=(0, 1, 2, 3), python="/venv/bin/python", vllm="/venv/bin/vllm")
GPUS = replace(CPU, devices=("0", "1", "2", "3"))
REAL = "owner/model"


def plan(wanted: Wanted, host: Host = CPU, taken: tuple[int, ...] = ()) -> Deployment:
    return decide(wanted, host, Path("/cache/tiny"), Path("/scratch"), lambda port: port not in taken)


def value(launch: Launch, name: str) -> str:
    return launch.command[launch.command.index(name) + 1]


def transfer(launch: Launch) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(value(launch, "--kv-transfer-config"))
    return config


def test_without_arguments_it_is_a_pair_with_the_tiny_model_on_the_cpu() -> None:
    decided = plan(Wanted())
    assert [launch.name for launch in decided.launches] == ["prefill-0", "decode-0", "router"]
    for engine in decided.engines:
        assert engine.command[:3] == ("/venv/bin/python", "-m", "kvlease.up.serve")
        assert value(engine, "--model") == "/cache/tiny"
        assert engine.environment["HF_HUB_OFFLINE"] == "1"
        assert "CUDA_VISIBLE_DEVICES" not in engine.environment
    assert [transfer(engine)["kv_role"] for engine in decided.engines] == ["kv_producer", "kv_consumer"]
    assert decided.model == "tiny"


def test_every_engine_has_ports_of_its_own_and_the_router_knows_all() -> None:
    decided = plan(Wanted(prefill=2, decode=3))
    urls = [launch.url for launch in decided.launches]
    handshakes = [launch.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] for launch in decided.engines]
    listeners = [launch.listener for launch in decided.engines]
    assert len({*urls, *handshakes, *listeners}) == 6 + 5 + 5
    for engine in decided.engines:
        assert engine.listener == f"http://{transfer(engine)['kv_connector_extra_config']['kv_lease_listen']}"
        assert engine.url == f"http://127.0.0.1:{value(engine, '--port')}"
    command = decided.router.command
    assert command[command.index("--prefill") + 1 : command.index("--decode")] == tuple(decided.urls("prefill"))
    assert command[command.index("--decode") + 1 : command.index("--drain-timeout")] == tuple(decided.urls("decode"))
    assert len(decided.urls("prefill")) == 2


def test_a_port_that_somebody_has_is_left_out() -> None:
    decided = plan(Wanted(port=8101), taken=(8100, 5600))
    assert [engine.url[-4:] for engine in decided.engines] == ["8102", "8103"]
    assert [engine.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] for engine in decided.engines] == ["5601", "5602"]


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("fe::1", "http://[fe::1]:8000")],
)
def test_the_router_is_asked_where_it_listens(host: str, url: str) -> None:
    assert plan(Wanted(host=host)).router.url == url


def test_each_rank_of_an_engine_has_ports() -> None:
    decided = plan(Wanted(model=REAL, engine_arguments=("--data_parallel_size=2",)), GPUS)
    assert [engine.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] for engine in decided.engines] == ["5600", "5602"]
    assert [engine.listener for engine in decided.engines] == ["http://127.0.0.1:9410", "http://127.0.0.1:9412"]


def test_stock_is_vllms_own_connector_and_nothing_of_kvlease() -> None:
    for engine in plan(Wanted(connector="stock")).engines:
        assert transfer(engine)["kv_connector"] == "NixlConnector"
        assert "kv_connector_extra_config" not in transfer(engine)
        assert engine.listener is None
        assert "VLLM_PLUGINS" not in engine.environment


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "kvlease"), ("", "kvlease"), ("lora", "lora,kvlease"), ("kvlease,a", "kvlease,a")]
)
def test_plugins_that_were_named_stay(given: str | None, expected: str) -> None:
    decided = plan(Wanted(), replace(CPU, plugins=given))
    assert {engine.environment["VLLM_PLUGINS"] for engine in decided.engines} == {expected}


# -- devices and cores ---------------------------------------------------------------------------------------------


def visible(decided: Deployment) -> list[str]:
    return [engine.environment["CUDA_VISIBLE_DEVICES"] for engine in decided.engines]


def test_devices_are_split_by_the_size_of_each_engine() -> None:
    assert visible(plan(Wanted(prefill=2, decode=2, model=REAL), GPUS)) == ["0", "1", "2", "3"]
    assert visible(plan(Wanted(model=REAL, engine_arguments=("-tp", "2")), GPUS)) == ["0,1", "2,3"]
    larger = Wanted(prefill=2, model=REAL, role_arguments={"decode": ("--tensor-parallel-size", "2")})
    assert visible(plan(larger, GPUS)) == ["0", "1", "2,3"]


def test_with_gpus_it_is_vllms_own_command_and_nothing_is_set_for_the_cpu() -> None:
    decided = plan(Wanted(model=REAL, engine_arguments=("--max-model-len", "8192"), extra_config={"a": 1}), GPUS)
    for engine in decided.engines:
        assert engine.command[:3] == ("/venv/bin/vllm", "serve", REAL)
        assert engine.command[-2:] == ("--max-model-len", "8192")
        assert "kv_buffer_device" not in transfer(engine)
        assert transfer(engine)["kv_connector_extra_config"]["a"] == 1
        assert not {"OMP_NUM_THREADS", "VLLM_TARGET_DEVICE", "HF_HUB_OFFLINE"} & set(engine.environment)
        assert engine.cores == ()
    assert decided.model == REAL


def test_more_engines_than_devices_are_refused_with_the_numbers() -> None:
    wanted = Wanted(prefill=2, decode=2, model=REAL, engine_arguments=("--tensor-parallel-size", "2"))
    with pytest.raises(NotStartable, match=r"need 8 devices \(2 and 2 each\), and there are 4 \(0, 1, 2, 3\)"):
        plan(wanted, GPUS)


def test_engines_that_share_a_device_divide_its_memory() -> None:
    one = replace(GPUS, devices=("7",))
    decided = plan(Wanted(model=REAL, share_devices=True), one)
    assert visible(decided) == ["7", "7"]
    assert [value(engine, "--gpu-memory-utilization") for engine in decided.engines] == ["0.45", "0.45"]
    assert visible(plan(Wanted(), one)) == ["7", "7"]
    given = Wanted(model=REAL, share_devices=True, engine_arguments=("--gpu-memory-utilization=0.3",))
    assert "--gpu-memory-utilization" not in plan(given, one).engines[0].command
    with pytest.raises(NotStartable, match="need 4 devices"):
        plan(Wanted(model=REAL, share_devices=True, engine_arguments=("-tp", "2")), one)


def test_cores_are_split_where_there_are_enough() -> None:
    assert [engine.cores for engine in plan(Wanted()).engines] == [(0, 1), (2, 3)]
    assert [engine.cores for engine in plan(Wanted(decode=3)).engines] == [(0,), (1,), (2,), (3,)]
    crowded = plan(Wanted(decode=4))
    assert [engine.cores for engine in crowded.engines] == [()] * 5
    assert crowded.starts_at_once == 4
    assert plan(Wanted(model="./m")).engines[0].environment["OMP_NUM_THREADS"] == "2"
    assert plan(Wanted()).engines[0].environment["OMP_NUM_THREADS"] == "1"


def test_the_model_is_asked_for_by_the_name_that_it_is_served_under() -> None:
    assert plan(Wanted(model=REAL, engine_arguments=("--served-model-name", "short"))).model == "short"


@pytest.mark.parametrize("size", ["two", "0", "", "²"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(NotStartable, match="whole number from 1"):
        plan(Wanted(engine_arguments=("--tensor-parallel-size", size)))


def test_devices_are_found_by_the_variable_and_else_by_their_files(tmp_path: Path) -> None:
    for name in ("nvidia1", "nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert found_devices({}, tmp_path) == ("0", "1", "10")
    assert found_devices({"CUDA_VISIBLE_DEVICES": "3, GPU-8a"}, tmp_path) == ("3", "GPU-8a")
    assert found_devices({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()
