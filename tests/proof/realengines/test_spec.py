"""The command line and the environment of an engine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from proof.realengines.spec import EngineSpec, command, environment, kv_transfer_config

STOCK = EngineSpec(name="p", model=Path("model"), role="kv_producer")
LEASED = replace(STOCK, connector="kvlease", extra_config={"kv_lease_duration": 6}, engine_id="one")


def argument(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_stock_is_vllms_own_connector_and_nothing_else() -> None:
    assert kv_transfer_config(STOCK) == {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_producer",
        "kv_buffer_device": "cpu",
        "kv_load_failure_policy": "recompute",
    }


def test_kvlease_is_named_with_its_module_as_in_the_manual() -> None:
    config = kv_transfer_config(replace(LEASED, load_failure_policy="fail"))
    assert config["kv_connector"] == "LeasedNixlConnector"
    assert config["kv_connector_module_path"] == "kvlease.vllm"
    assert config["kv_connector_extra_config"] == {"kv_lease_duration": 6}
    assert config["engine_id"] == "one"
    assert config["kv_load_failure_policy"] == "fail"


def test_the_command_line_carries_the_sizes_and_the_transfer_config() -> None:
    arguments = command(replace(LEASED, num_blocks=200, tensor_parallel_size=2, max_num_seqs=1), http_port=20001)
    assert argument(arguments, "--num-gpu-blocks-override") == "200"
    assert argument(arguments, "--tensor-parallel-size") == "2"
    assert "--data-parallel-size" not in arguments
    assert argument(command(replace(LEASED, data_parallel_size=2), http_port=20001), "--data-parallel-size") == "2"
    assert argument(arguments, "--max-num-seqs") == "1"
    assert argument(arguments, "--port") == "20001"
    assert argument(arguments, "--distributed-executor-backend") == "mp"
    assert json.loads(argument(arguments, "--kv-transfer-config")) == kv_transfer_config(LEASED)


def test_prefix_caching_is_left_as_vllm_has_it_or_turned_off() -> None:
    assert not [argument for argument in command(STOCK, http_port=20001) if "prefix-caching" in argument]
    assert "--no-enable-prefix-caching" in command(replace(STOCK, prefix_caching=False), http_port=20001)


def test_the_environment_names_the_side_channel_and_can_be_overridden() -> None:
    settings = environment(replace(STOCK, extra_env={"UCX_TLS": "tcp"}), 20002, Path("scratch"))
    assert settings["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "20002"
    assert settings["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert settings["UCX_TLS"] == "tcp"


def test_an_engine_elsewhere_is_started_by_its_launcher_and_has_its_own_address() -> None:
    spec = replace(STOCK, host="10.77.0.1", launcher=("ip", "netns", "exec", "a"))
    arguments = command(spec, http_port=20001)
    assert arguments[:4] == ["ip", "netns", "exec", "a"]
    assert argument(arguments, "--host") == "10.77.0.1"
    assert environment(spec, 20002, Path("scratch"))["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "10.77.0.1"


def test_an_engine_behind_a_socket_has_no_http_address() -> None:
    arguments = command(replace(STOCK, http_socket=Path("/run/p.sock")), http_port=20001)
    assert argument(arguments, "--uds") == "/run/p.sock"
    assert not {"--host", "--port"} & set(arguments)


def test_a_pool_too_small_for_one_request_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="at least 129 blocks"):
        replace(STOCK, num_blocks=128, max_model_len=4096)
    replace(STOCK, num_blocks=129, max_model_len=4096)
