"""Configurations are read as people write them; what is none is refused with what to write."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kvlease.console.commands import BadArguments
from kvlease.doctor.reading import read
from kvlease.doctor.setups import EngineSetup, arguments_of

CONFIG = '{"kv_connector": "LeasedNixlConnector", "kv_role": "kv_producer"}'
DEPLOYMENT = """
kind: Deployment
metadata: {name: prefill}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 90
      initContainers: [{name: routing-proxy, args: ["--kv-connector=nixlv2"]}]
      containers:
      - name: vllm
        args: [serve, model, --port=8200, --kv-transfer-config, '%s']
        env:
        - {name: VLLM_NIXL_SIDE_CHANNEL_HOST, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: VLLM_NIXL_SIDE_CHANNEL_PORT, value: "5601"}
        lifecycle: {preStop: {exec: {command: [curl, -XPOST, "http://localhost:8200/v1/kvlease/drain?wait=60"]}}}
"""
Write = Callable[[str, str], str]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def one(text: str, environment: dict[str, str] | None = None) -> EngineSetup:
    (found,) = read(text, environment or {})
    return found


def test_json_is_the_value_of_the_argument() -> None:
    found = one(CONFIG)
    assert (found.produces, found.arguments, found.leased) == (True, None, True)


def test_a_command_line_has_arguments_and_variables_before_it() -> None:
    line = f"A=1 env VLLM_PLUGINS=kvlease vllm serve model -dp 2 --shutdown_timeout=60 --kv-transfer-config '{CONFIG}'"
    found = one(line, {"SHELL_HAS": "it"})
    assert found.variables == {"SHELL_HAS": "it", "A": "1", "VLLM_PLUGINS": "kvlease"}
    assert found.arguments is not None
    assert (found.arguments["shutdown-timeout"], list(found.side_channel_ports)) == ("60", [5600, 5601])
    assert found.transfer == json.loads(CONFIG)


def test_a_script_has_several_engines_comments_and_exports(written: Write) -> None:
    script = f"""#!/bin/sh
# vllm serve is what follows; it's good
export VLLM_NIXL_SIDE_CHANNEL_HOST=$(hostname -i)
VLLM_NIXL_SIDE_CHANNEL_PORT=5601 vllm serve model \\
    --kv-transfer-config '{CONFIG}' &
python -m vllm.entrypoints.openai.api_server --kv-transfer-config.kv_role kv_consumer \\
    --kv-transfer-config.kv_connector_extra_config.kv_lease_stall_limit 9 && sleep 5; wait
"""
    first, second = read(written("start.sh", script), {})
    assert (first.variables["VLLM_NIXL_SIDE_CHANNEL_PORT"], first.side_channel_host) == ("5601", None)
    assert "VLLM_NIXL_SIDE_CHANNEL_PORT" not in second.variables
    assert second.transfer == {"kv_role": "kv_consumer", "kv_connector_extra_config": {"kv_lease_stall_limit": 9}}
    assert (first.name.endswith("engine 1"), second.name.endswith("engine 2")) == (True, True)


def test_a_long_command_line_is_no_name_of_a_file() -> None:
    assert one(f"vllm serve {'m' * 5000} --kv-transfer-config '{CONFIG}'").produces


def test_in_quotes_a_command_line_has_several_lines() -> None:
    found = one(f"vllm serve m\n  --port 9000\n  --kv-transfer-config '{CONFIG}'")
    assert (found.number("port", 0), found.produces) == (9000, True)


def test_docker_gives_variables_in_its_own_way() -> None:
    assert one(f"docker run -e A=1 --env B=2 vllm/vllm-openai --kv-transfer-config '{CONFIG}'").variables == {
        "A": "1",
        "B": "2",
    }


def test_a_pod_has_a_hook_a_grace_and_values_that_are_known_later(written: Write) -> None:
    pytest.importorskip("yaml")
    found = one(written("prefill.yaml", DEPLOYMENT % CONFIG))
    assert found.name.endswith("prefill.yaml: Deployment/prefill, container vllm")
    assert found.pod is not None
    assert (found.pod.grace_s, "drain?wait=60" in str(found.pod.pre_stop)) == (90.0, True)
    assert (found.side_channel_host, list(found.side_channel_ports)) == (None, [5601])
    assert found.number("port", 0) == 8200


def test_a_shell_in_a_pod_is_read_as_a_script(written: Write) -> None:
    pytest.importorskip("yaml")
    pod = f"""
kind: Pod
metadata: {{name: p}}
spec:
  hostNetwork: true
  containers:
  - name: vllm
    command: [/bin/sh, -c]
    args:
    - |
      export VLLM_PLUGINS=kvlease
      exec vllm serve model --port $(PORT) \\
        --kv-transfer-config '{CONFIG}'
    env: [{{name: PORT, value: "9000"}}]
"""
    found = one(written("pod.yml", pod))
    assert (found.number("port", 0), found.variables["VLLM_PLUGINS"], found.network) == (9000, "kvlease", "host")
    assert found.pod is not None
    assert (found.pod.pre_stop, found.pod.grace_s) == (None, 30.0)


def test_ray_and_dynamo_are_known(written: Write) -> None:
    pytest.importorskip("yaml")
    ray = f"""
applications:
- args:
    prefill_config:
      engine_kwargs:
        tensor_parallel_size: 2
        enable_sleep_mode: true
        kv_transfer_config: {CONFIG}
"""
    found = one(written("ray.yaml", ray))
    assert (found.framework, found.number("tensor-parallel-size", 0)) == ("Ray", 2)
    assert found.arguments is not None
    assert found.arguments["enable-sleep-mode"] == ""
    assert one(f"python -m dynamo.vllm --kv-transfer-config '{CONFIG}'").framework == "Dynamo"


def test_standard_input_may_be_what_kubectl_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    listed = "kind: List\nitems:\n" + "\n".join(
        ("- " if number == 0 else "  ") + line for number, line in enumerate((DEPLOYMENT % CONFIG).strip().splitlines())
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    assert "Deployment/prefill" in one("-").name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.yaml", "is no file here: give --config a file"),
        ("{", "is no JSON"),
        ('{"a": 1}', "has no engine with a kv-transfer-config"),
        ("vllm serve model --kv-transfer-config '{", "cannot be read as a command line"),
    ],
)
def test_what_is_no_configuration_is_refused_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        read(text, {})


_BOMB = "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 99)}]" for n in range(1, 9))])


@pytest.mark.parametrize("text", [_BOMB, "a: &a\n  b: *a", "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500])
def test_a_tree_that_nobody_can_walk_through_is_refused(written: Write, text: str) -> None:
    with pytest.raises(BadArguments, match=r"deeper or larger|is no JSON"):
        read(str(written("some.yaml", text)), {})


def test_a_part_of_what_is_no_object_is_a_finding_and_no_refusal() -> None:
    part = "--kv-transfer-config.kv_role"
    assert one(f"vllm serve model {part} kv_producer {part}.x 3").unreadable is not None


@pytest.mark.parametrize("value", ["{'kv_role': 1}", "[1]"])
def test_a_value_that_is_no_object_is_a_finding_and_no_refusal(value: str) -> None:
    assert one(f'vllm serve model --kv-transfer-config "{value}"').unreadable is not None


def test_an_argument_is_found_however_it_is_written() -> None:
    words = ["serve", "m", "--a_b=1", "--flag", "--c-d", "2", "-tp", "4", "-x", "--d.e_f", "3", "--neg=-1"]
    expected = {"a-b": "1", "flag": "", "c-d": "2", "tensor-parallel-size": "4", "d.e_f": "3", "neg": "-1"}
    assert arguments_of(words) == expected
