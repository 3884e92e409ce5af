"""A run with small processes in the engines' place: started, restarted, ended, and ended when nobody else can."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvlease.console.exits import Exit
from kvlease.up.children import Child, ReaperProcess
from kvlease.up.processes import group_members
from kvlease.up.reaper import Charge, Charges, read
from kvlease.up.running import UpRun
from tests.up.small import SERVER, run_of, segments, small
from tests.waiting import wait_until

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
DIES = (
    "import sys; sys.exit('(EngineCore pid=7) ERROR 11-20 08:28:44 [core.py:1510] ValueError: the pool is too small')"
)

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVER


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A run takes the process's signals, which are the tests' again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def group(run: UpRun, name: str) -> int:
    found = run.children[name].group
    assert found is not None
    return found


def test_what_is_killed_is_started_again_and_one_signal_ends_all(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No proxy stands between processes of one machine.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    decided = small(scratch)
    run = run_of(decided, tmp_path / "logs")

    async def story() -> set[int]:
        ended = asyncio.create_task(run.run())
        await until(lambda: run.announced)
        groups = {group(run, name) for name in run.children}
        before = group(run, "decode-0")
        os.killpg(before, signal.SIGKILL)
        await until(lambda: run.supervision.processes["decode-0"].restarts == 1 and run.supervision.all_ready)
        assert group(run, "decode-0") != before
        groups.add(group(run, "decode-0"))
        assert len(segments(decided.launches[1].command[-1])) == 1, "that of the one that was killed is there"
        os.kill(os.getpid(), signal.SIGTERM)
        assert await ended == Exit.OK
        return groups

    groups = asyncio.run(story())
    assert [member for each in groups for member in group_members(each)] == []
    assert not scratch.exists()
    assert not any(segments(launch.command[-1]) for launch in decided.launches)
    said = capsys.readouterr().out
    assert "decode-0 has ended (killed by SIGKILL) and starts again in 0.01 s" in said
    assert f"all serve: {decided.router.url}/v1, model none" in said
    assert f"kvlease top {' '.join(launch.url for launch in decided.engines)}\n" in said


def test_a_process_that_does_not_come_up_ends_all_and_its_log_says_why(
    scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(small(scratch, DIES), tmp_path / "logs", quiet=True)
    assert asyncio.run(run.run()) == Exit.NOT_DONE
    said = capsys.readouterr().out
    assert "decode-0 did not come up (exit 1); its log says: ValueError: the pool is too small" in said
    assert str(tmp_path / "logs" / "decode-0.log") in said
    assert "starts" not in said, "quiet is what was asked for"


def test_it_ends_politely_also_where_nobody_reads_any_more(scratch: Path, tmp_path: Path) -> None:
    """Ctrl-C ends both sides of `kvlease up | tee FILE`."""
    command = [sys.executable, "-m", "tests.up.small", str(scratch), str(tmp_path / "logs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as up:
        assert up.stdout is not None
        assert any("all serve" in line for line in up.stdout)
        up.stdout.close()
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0


def test_nothing_is_left_when_up_itself_is_killed(scratch: Path, tmp_path: Path) -> None:
    """No process of any group, no shared memory and no directory is left after a SIGKILL."""
    command = [sys.executable, "-m", "tests.up.small", str(scratch), str(tmp_path / "logs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as up:
        assert up.stdout is not None
        beginnings, groups = [], set()
        for line in up.stdout:
            beginnings += [line.split()[1]] if "/dev/shm/" in line else []
            if "all serve" in line:
                break
        for child in children_of(up.pid):
            groups.add(child)
        assert len(groups) == 4, "three processes and the reaper"
        assert all(segments(beginning) for beginning in beginnings)
        up.kill()
    wait_until(lambda: not any(group_members(each) for each in groups))
    assert len(beginnings) == 3
    # The reaper removes memory when the last process is gone.
    wait_until(lambda: not scratch.exists())
    assert not any(segments(beginning) for beginning in beginnings)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_was_registered_never_runs_without_its_line(scratch: Path, tmp_path: Path) -> None:
    """A process becomes its command only when the reaper knows its group."""
    reaper = ReaperProcess(tmp_path / "reaper.log")
    told: list[list[str]] = []
    launch = replace(small(scratch).launches[0], command=("sleep", "600"))

    class Watching(ReaperProcess):
        def __init__(self) -> None:
            pass

        def tell(self, charge: Charge) -> None:
            if charge.group and not charge.over:
                told.append([member.title for member in group_members(charge.group)])

    child = Child(launch, tmp_path / "log", scratch, Watching())
    child.start(os.environ)
    child.kill()
    child.bury()
    reaper.close()
    assert len(told) == 1
    assert told[0][0].startswith("/bin/sh -c read")


def test_a_reaper_that_was_killed_has_a_successor_that_knows_all(tmp_path: Path) -> None:
    reaper = ReaperProcess(tmp_path / "reaper.log")
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    memory = tmp_path / "memory"
    memory.touch()
    reaper.tell(Charge(group=sleeper.pid, segments=[str(memory)]))
    before = reaper.pid
    os.kill(before, signal.SIGKILL)

    def has_a_successor() -> bool:
        reaper.keep_alive()
        return reaper.pid != before

    wait_until(has_a_successor)
    reaper.close()
    assert sleeper.wait(timeout=20) == -signal.SIGKILL
    assert not memory.exists()


def test_a_charge_is_kept_until_it_is_over() -> None:
    charges = Charges()
    lines = [
        b'{"group":5,"segments":["/a"]}',
        b'{"group":6}',
        b'{"group":5,"segments":["/b"]}',
        b'{"group":6,"over":true}',
    ]
    read([*lines, b'{"scratch":"/c"}', b'{"gro'], charges)
    assert charges.groups == {5: {"/a", "/b"}}
    assert charges.lines() == [Charge(scratch="/c"), Charge(group=5, segments=["/a", "/b"])]


def test_a_second_signal_ends_at_once_what_would_not_end(scratch: Path, tmp_path: Path) -> None:
    run = run_of(small(scratch, STUBBORN), tmp_path / "logs", quiet=True)

    async def story() -> None:
        ended = asyncio.create_task(run.run())
        await until(lambda: run.announced)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: run.children["prefill-0"].status() is not None)
        os.kill(os.getpid(), signal.SIGINT)
        assert await ended == Exit.INTERRUPTED

    asyncio.run(story())
