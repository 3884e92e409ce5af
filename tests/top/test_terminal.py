"""`kvlease top` in a real terminal: tmux draws it, and types."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.top.serve import Door
from tests.top.stories import DIES_S, fleet, play
from tests.waiting import PATIENCE_S

TMUX = shutil.which("tmux")
SOCKET = f"kvlease-top-{os.getpid()}"

pytestmark = [pytest.mark.long, pytest.mark.skipif(TMUX is None, reason="tmux is not installed here")]


def tmux(*words: str) -> str:
    return subprocess.run(["tmux", "-L", SOCKET, *words], check=True, capture_output=True, text=True).stdout


def screen() -> str:
    # A look takes a process: it is not to be asked for all the time.
    time.sleep(0.05)
    return tmux("capture-pane", "-p", "-t", "top")


def shows(*texts: str) -> None:
    """Waits until the terminal shows all of these."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(text in (shown := screen()) for text in texts):
        assert time.monotonic() < deadline, f"the terminal never showed {texts}, but:\n{shown}"


@pytest.fixture
def doors() -> Iterator[list[Door]]:
    """A fleet that waits to be looked at."""
    servers = fleet()
    play(servers, 30.0)
    opened = [Door(server) for server in servers]
    yield opened
    for door in opened:
        door.close()


@pytest.fixture
def terminal(doors: list[Door]) -> Iterator[None]:
    """A terminal of the usual size, in which it runs."""
    command = [sys.executable, "-m", "kvlease.cli", "top", "--interval", "0.2", *(door.url for door in doors)]
    shell = f"{shlex.join(command)}; echo left with $?; exec sleep 600"
    tmux("-f", "/dev/null", "new-session", "-d", "-s", "top", "-x", "80", "-y", "24", shell)
    yield
    tmux("kill-server")


@pytest.mark.usefixtures("terminal")
def test_it_is_drawn_answers_keys_and_leaves_the_terminal_as_it_was(doors: list[Door]) -> None:
    shows("4 engines", "claimed")
    play([door.canned for door in doors], DIES_S + 1)
    for door in doors:
        door.follow()
    shows("connection refused since", "1 no answer")
    tmux("send-keys", "-t", "top", "3")
    shows(" lends ")
    tmux("send-keys", "-t", "top", "q")
    shows("left with 0")
    assert "engines" not in screen()
