"""Engines' own network, as far as it shows without root: the commands that it runs, and what it says."""

import shutil
import subprocess
from typing import Any

import pytest

from proof.realengines import network
from proof.realengines.network import Network, NetworkUnavailable

Commands = list[str]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The commands that would have been run. Each succeeds, and prints nothing."""
    made: Commands = []

    def run(*command: str) -> str:
        made.append(" ".join(command))
        return ""

    monkeypatch.setattr(network, "_run", run)
    monkeypatch.setattr(network, "_check_commands", lambda: None)
    return made


def test_what_is_made_is_removed_and_nothing_else_is_touched(commands: Commands) -> None:
    with Network(["p", "d1"]) as made:
        namespaces = set(made.namespaces)
    added = {command.split()[-1] for command in commands if command.startswith("ip netns add")}
    deleted = {command.split()[-1] for command in commands if command.startswith("ip netns delete")}
    assert added == deleted == namespaces
    for command in commands:
        assert any(namespace in command for namespace in namespaces), f"of the machine's own network: {command}"


def test_a_network_that_cannot_be_made_is_removed_as_far_as_it_was(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*command: str) -> str:
        if command[-1].endswith("-d1"):
            raise NetworkUnavailable("no more")
        commands.append(" ".join(command))
        return ""

    monkeypatch.setattr(network, "_run", run)
    with pytest.raises(NetworkUnavailable, match="no more"), Network(["p", "d1"]):
        pass
    assert [command for command in commands if "delete" in command] == [f"ip netns delete {commands[0].split()[-1]}"]


def test_packets_are_dropped_where_they_arrive(commands: Commands) -> None:
    with Network(["p", "d1"]) as made:
        commands.clear()
        made.lose("d1", 1.0, ["to"])
        made.lose("d1", 0.25, ["from"])
        dropping = [command for command in commands if " filter " in command]
    assert "-d1 filter add dev eth0 ingress bpf direct-action bytecode 1,6 0 0 2" in dropping[0]
    assert "-switch filter add dev port-d1 ingress" in dropping[1]
    assert dropping[1].endswith("4,32 0 0 4294963256,53 0 1 1073741824,6 0 0 4294967295,6 0 0 2")


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with Network(["p"]) as made, pytest.raises(ValueError, match=f"share={share}"):
        made.lose("p", share)


@pytest.mark.usefixtures("commands")
def test_an_engine_is_started_in_its_namespace_and_without_shared_memory() -> None:
    with Network(["p", "d1"]) as made:
        place = made.place("d1")
        assert place.launcher == ("ip", "netns", "exec", made.namespaces[1])
    assert place.host == "10.77.0.2"
    assert place.environment["UCX_TLS"] == "tcp,self"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "tc" else name)
    with pytest.raises(NetworkUnavailable, match="tc not found; Debian's package iproute2 has it"), Network(["p"]):
        pass


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NetworkUnavailable, match="takes root"), Network(["p"]):
        pass


def test_a_command_that_fails_is_told_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*command: Any, **_: Any) -> Any:
        return subprocess.CompletedProcess(command, 1, "", "Operation not permitted\n")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    said = r"`ip netns add kvlease-\d+-\d+-a` failed: Operation not permitted"
    with pytest.raises(NetworkUnavailable, match=said), Network(["a"]):
        pass
