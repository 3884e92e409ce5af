"""Refusals before anything is started, and what each of them says."""

from pathlib import Path

import pytest

from kvlease.up.checks import check_machine, check_wanted
from kvlease.up.machine import Host
from kvlease.up.plan import NotStartable
from kvlease.up.wanted import Wanted

HOST = Host()


def machine(wanted: Wanted, *, missing: tuple[str, ...] = (), taken: bool = False, host: Host = HOST) -> None:
    check_machine(wanted, host, lambda module: module not in missing, lambda *_: not taken)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(engine_arguments=("--port", "1")), "--port is not to be given to engines: .* --port before the --"),
        (Wanted(role_arguments={"decode": ("--kv_transfer_config={}",)}), "--kv-transfer-config .*--extra-config"),
        (Wanted(extra_config={"kv_lease_listen": "a:1"}), "kv_lease_listen is not to be given"),
        (Wanted(extra_config={"kv_lease_duratoin": 3}), "in --extra-config, .* did you mean kv_lease_duration"),
        (Wanted(extra_config={"kv_lease_events_sample": 3}), "in --extra-config, kv_lease_events_sample is 3"),
        (Wanted(router_arguments=("--port", "9")), "give --port to `kvlease up` itself"),
        (Wanted(model="./nowhere"), "--model nowhere is no directory here"),
    ],
)
def test_what_no_machine_could_start_is_refused(wanted: Wanted, said: str) -> None:
    with pytest.raises(NotStartable, match=said):
        check_wanted(wanted)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotStartable, match=r"has no config\.json"):
        check_wanted(Wanted(model=str(tmp_path)))
    (tmp_path / "config.json").touch()
    check_wanted(Wanted(model=str(tmp_path)))


def test_names_that_vllm_fetches_are_not_looked_for() -> None:
    check_wanted(Wanted(model="owner/model", engine_arguments=("--max-model-len", "10")))


def test_settings_that_engines_would_take_are_taken() -> None:
    check_wanted(Wanted(extra_config={"kv_lease_duration": 10, "kv_lease_events": "/tmp/events", "backends": ["UCX"]}))
    check_wanted(Wanted(connector="stock", extra_config={"kv_lease_duration": 1e9}))


def test_what_this_machine_lacks_is_said_with_the_remedy() -> None:
    machine(Wanted())
    machine(Wanted(), missing=("rixl",))
    with pytest.raises(NotStartable, match=r"vLLM is not installed for .*`pip install vllm`"):
        machine(Wanted(), missing=("vllm",))
    with pytest.raises(NotStartable, match=r"NIXL.*`pip install nixl`"):
        machine(Wanted(), missing=("nixl", "rixl"))
    with pytest.raises(NotStartable, match=r"port 8000 of 127\.0\.0\.1 is in use"):
        machine(Wanted(), taken=True)
    with pytest.raises(NotStartable, match="the command /nowhere/bin/vllm is not there"):
        machine(Wanted(), host=Host(devices=("0",), vllm="/nowhere/bin/vllm"))


def test_a_vllm_of_the_other_kind_is_refused() -> None:
    machine(Wanted(), host=Host(built_for_cpu=True))
    with pytest.raises(NotStartable, match="no NVIDIA device was found, and the vLLM here is not built for the CPU"):
        machine(Wanted(), host=Host(built_for_cpu=False))
    with pytest.raises(
        NotStartable, match=r"built for the CPU, and engines would have NVIDIA devices \(0, 1\): give --devices none"
    ):
        machine(Wanted(), host=Host(devices=("0", "1"), built_for_cpu=True))
