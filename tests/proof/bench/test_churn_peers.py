"""Processes of benchmarks run on their core, with their environment; nobody waits for one that is dead."""

import os
from multiprocessing.connection import Connection

import pytest

from proof.bench.core.peers import PeerEnded, PinnedProcess, one_way_pipe

pytestmark = pytest.mark.long


def tell_about_itself(parent: Connection, name: str) -> None:
    parent.send((os.sched_getaffinity(0), os.environ.get(name), parent.recv()))


def fail(parent: Connection) -> None:
    del parent
    raise RuntimeError("as it was told to")


def pass_on(parent: Connection, pipe: Connection) -> None:
    pipe.send(parent.recv())


def receive(parent: Connection, pipe: Connection) -> None:
    parent.send(pipe.recv())


@pytest.mark.parametrize("core", [0, 1, 7])
def test_it_has_its_core_and_its_environment(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with PinnedProcess(tell_about_itself, "UCX_TLS", core=core, environment={"UCX_TLS": "tcp"}) as peer:
        peer.tell("hello")
        assert peer.hear() == ({cores[core % len(cores)]}, "tcp", "hello")
    assert os.environ.get("UCX_TLS") != "tcp"


def test_a_dead_one_is_an_error_that_names_it() -> None:
    with pytest.raises(PeerEnded, match="fail has ended with 1"), PinnedProcess(fail, core=0) as peer:
        peer.hear()


def test_two_of_them_can_talk() -> None:
    outlet, inlet = one_way_pipe()
    with PinnedProcess(pass_on, inlet, core=0) as one, PinnedProcess(receive, outlet, core=0) as two:
        one.tell("word")
        assert two.hear() == "word"


def test_none_outlives_an_error() -> None:
    with pytest.raises(KeyError), PinnedProcess(tell_about_itself, "HOME", core=0) as peer:
        raise KeyError("in the middle of it")
    assert not peer.alive
