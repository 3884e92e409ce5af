"""Files that are printed say the same as what is started: every command, every variable, every core."""

import configparser
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvlease.up.compose import as_compose
from kvlease.up.engines import SCRATCH_VARIABLES
from kvlease.up.machine import Host
from kvlease.up.plain import as_script
from kvlease.up.plan import Deployment, Launch, decide
from kvlease.up.systemd import as_units, unit_name
from kvlease.up.wanted import Wanted

HARD = Wanted(engine_arguments=("--chat-template", "a 'b' $c 100%\\ \"d\""), extra_config={"note": "$x % y"})
SCRATCH = Path("/scratch")


def plan(wanted: Wanted = HARD, devices: tuple[str, ...] = ()) -> Deployment:
    host = Host(devices=devices, cores=(0, 1), python="/bin/sh")
    return decide(wanted, host, Path("/cache/tiny"), SCRATCH)


@pytest.mark.parametrize("devices", [(), ("0", "1")], ids=["cpu", "gpus"])
def test_the_script_executes_what_up_executes(devices: tuple[str, ...], tmp_path: Path) -> None:
    """A shell executes the script, with a program in place of each command that writes what it was given."""
    decided = plan(devices=devices)
    record = tmp_path / "record"
    record.write_text('#!/bin/sh\n{ env -0; printf "\\0"; for each; do printf "%s\\0" "$each"; done; } >"$RECORD"\n')
    record.chmod(0o755)
    shown = replace(decided, launches=tuple(_recorded(each, record, tmp_path) for each in decided.launches))
    script = tmp_path / "up.sh"
    script.write_text(as_script(shown, tmp_path / "logs"))
    subprocess.run(["sh", script], check=True, timeout=20, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)})
    for launch in decided.launches:
        told, _, words = (tmp_path / launch.name).read_text().partition("\0\0")
        environment = dict(line.split("=", 1) for line in told.split("\0"))
        assert words.split("\0")[:-1] == list(launch.command)
        for name, value in launch.environment.items():
            # The script makes a directory of its own.
            assert (
                environment[name].endswith(f"/{launch.name}")
                if name in SCRATCH_VARIABLES
                else (environment[name] == value)
            )
    assert not list(tmp_path.glob("tmp.*")), "the script has left its directory"


def _recorded(launch: Launch, record: Path, folder: Path) -> Launch:
    command = (str(record), *launch.command)
    # Other cores than this machine has could not be had.
    return replace(
        launch, command=command, environment={**launch.environment, "RECORD": str(folder / launch.name)}, cores=()
    )


def test_the_script_pins_engines_to_their_cores() -> None:
    words = shlex.split(as_script(plan(), Path("logs")), comments=True)
    pinned = [words[place + 2] for place, word in enumerate(words) if word == "taskset"]
    assert pinned == ["0", "1"]


# -- systemd -------------------------------------------------------------------------------------------------------


def read(unit: str) -> dict[str, list[str]]:
    """The settings of a service, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def unquoted(text: str) -> list[str]:
    """The words of a setting as systemd reads them: its quotes and escapes are a shell's, but for %."""
    return [once(word, "%") for word in shlex.split(text)]


def once(text: str, character: str) -> str:
    """The text in which a character stands for itself, from one in which it has to be written twice."""
    assert character not in text.replace(2 * character, ""), f"a single {character} would mean something"
    return text.replace(2 * character, character)


def test_a_unit_executes_what_up_executes() -> None:
    decided = plan()
    units = as_units(decided, "somebody", 30)
    for launch in decided.launches:
        settings = read(units[unit_name(launch)])
        assert [once(word, "$") for word in unquoted(settings["ExecStart"][0])] == list(launch.command)
        told = {name: value for name, value in launch.environment.items() if name not in SCRATCH_VARIABLES}
        said = dict(unquoted(text)[0].split("=", 1) for text in settings.get("Environment", []))
        assert said == told
        assert settings.get("CPUAffinity", [""])[0].split() == [str(core) for core in launch.cores]
        assert settings["Restart"] == ["always"]
        assert settings["User"] == ["somebody"]


def test_a_prefill_engine_is_drained_before_it_ends_and_nothing_else_is() -> None:
    decided = plan()
    units = as_units(decided, "somebody", 30)
    stops = {name: read(unit).get("ExecStop") for name, unit in units.items()}
    assert stops.pop("kvlease-prefill-0.service") == ["/bin/sh -m kvlease.up.drain http://127.0.0.1:9410 30"]
    assert set(stops.values()) == {None}
    assert read(units["kvlease-prefill-0.service"])["TimeoutStopSec"] == ["90"]
    stock = as_units(plan(Wanted(connector="stock")), "somebody", 30)
    assert not any("ExecStop" in unit for unit in stock.values())


def test_the_target_wants_every_service() -> None:
    units = as_units(plan(), "somebody", 30)
    assert set(read(units["kvlease.target"])["Wants"][0].split()) == set(units) - {"kvlease.target"}
    for unit in units.values():
        configparser.RawConfigParser(strict=False).read_string(unit)


def test_the_router_ends_before_the_engines_that_answer_its_requests() -> None:
    units = as_units(plan(), "somebody", 30)
    engines = {"kvlease-prefill-0.service", "kvlease-decode-0.service"}
    assert set(read(units["kvlease-router.service"])["After"][0].split()) == {"network-online.target", *engines}
    assert {read(units[name])["After"][0] for name in engines} == {"network-online.target"}
    found = services()
    assert {name: service.get("depends_on") for name, service in found.items()} == {
        "prefill-0": None,
        "decode-0": None,
        "router": ["prefill-0", "decode-0"],
    }


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not here")
    units = as_units(plan(), "root", 30)
    for name, unit in units.items():
        (tmp_path / name).write_text(unit)
    said = subprocess.run(
        [verify, "verify", "--recursive-errors=no", *(tmp_path / name for name in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")


# -- compose -------------------------------------------------------------------------------------------------------


def services(devices: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(as_compose(plan(devices=devices), 30))["services"]
    return found


@pytest.mark.parametrize("devices", [(), ("0", "1")], ids=["cpu", "gpus"])
def test_a_container_executes_what_up_executes(devices: tuple[str, ...]) -> None:
    decided = plan(devices=devices)
    for launch, service in zip(decided.launches, services(devices).values(), strict=True):
        command = [once(word, "$") for word in service["command"]]
        assert command[1:] == list(launch.command[1:])
        assert command[0] == ("vllm" if "serve" in command else "python3")
        told = {
            name: value
            for name, value in launch.environment.items()
            if name not in (*SCRATCH_VARIABLES, "CUDA_VISIBLE_DEVICES")
        }
        assert {name: once(text, "$") for name, text in service.get("environment", {}).items()} == told
        assert service["network_mode"] == "host"
        assert service.get("cpuset", "") == ",".join(map(str, launch.cores))


def test_a_container_has_its_engines_devices_and_the_model() -> None:
    found = services(("0", "1"))
    for name, device in (("prefill-0", "0"), ("decode-0", "1")):
        (reserved,) = found[name]["deploy"]["resources"]["reservations"]["devices"]
        assert reserved == {"driver": "nvidia", "device_ids": [device], "capabilities": ["gpu"]}
        assert found[name]["volumes"] == ["/cache/tiny:/cache/tiny:ro"]
    assert "deploy" not in found["router"]
    assert [name for name, service in found.items() if "pre_stop" in service] == ["prefill-0"]


def test_the_image_is_the_one_that_was_named_and_else_a_variable() -> None:
    assert {service["image"] for service in services().values()} == {services()["router"]["image"]}
    assert re.match(r"\$\{KVLEASE_IMAGE:\?", services()["router"]["image"])
    assert "image: mine:1\n" in as_compose(plan(), 30, "mine:1")


def test_an_image_for_gpus_is_named_for_engines_on_gpus_alone() -> None:
    assert "FROM vllm/vllm-openai:v" in as_compose(plan(devices=("0", "1")), 30)
    assert "vllm-openai" not in as_compose(plan(), 30)


@pytest.mark.prometheus
def test_docker_takes_the_compose_file(tmp_path: Path) -> None:
    command = [shutil.which("docker") or "docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not here")
    (tmp_path / "compose.yml").write_text(as_compose(plan(), 30, "an-image"))
    subprocess.run([*command, "-f", tmp_path / "compose.yml", "config", "--quiet"], check=True)
