"""The journal: bounded files that others may spoil, and an engine that never waits for them."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvlease.errors import ConfigError
from kvlease.events.finding import find
from kvlease.events.journal import FILES, PARTS, Journal
from kvlease.events.lines import Writer
from kvlease.events.reading import NoEvents, Survey, files_in, lines_of
from kvlease.events.recorder import FactRecorder, Heard
from kvlease.events.schema import EventKind
from kvlease.events.settings import EventSettings, check_folder, event_settings
from kvlease.protocol.engine_facts import PrefillOffered

WRITER = Writer("engine/with a name", 0, 7)


def offered(number: int) -> PrefillOffered:
    return PrefillOffered(number, f"cmpl-r{number}-0", 190, 12, 30.0)


def kinds(path: Path) -> list[EventKind]:
    return [line.event for line in lines_of(path, Survey())]


class Kept:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.dropped = 0

    def take(self, heard: Sequence[Heard], dropped: int) -> None:
        self.heard += heard
        self.dropped += dropped

    def close(self) -> None: ...


def test_a_file_tells_of_its_engine_from_its_start_to_its_end(tmp_path: Path) -> None:
    recorder = FactRecorder([journal := Journal(EventSettings(tmp_path / "new" / "folder"), WRITER)], period_s=0.01)
    recorder.start()
    recorder.hear(offered(1))
    recorder.close()
    recorder.close()
    assert journal.path.name == f"events-engine_with_a_name-{os.getpid()}.jsonl"
    assert kinds(journal.path) == [EventKind.STARTED, EventKind.GRANTED, EventKind.STOPPED]


def test_files_together_stay_below_their_bound(tmp_path: Path) -> None:
    """A process may have two journals, and each gets half."""
    journal = Journal(EventSettings(tmp_path, megabytes=1), WRITER)
    for start in range(0, 6000, 200):
        journal.take([(1.79e9 + n, offered(n)) for n in range(start, start + 200)], 0)
    written = sorted(tmp_path.iterdir())
    assert len(written) == FILES
    assert sum(path.stat().st_size for path in written) <= 1e6 / PARTS * 1.02
    assert find(files_in([tmp_path]), "r5999").lines, "the newest are there"
    assert find(files_in([tmp_path]), "cmpl-r5000").lines, "in a rotated file"


def test_compressed_files_are_read(tmp_path: Path) -> None:
    journal = Journal(EventSettings(tmp_path), WRITER)
    journal.take([(1.79e9, offered(1))], 0)
    with journal.path.open("rb") as plain, gzip.open(tmp_path / "events-old.jsonl.1.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    journal.path.unlink()
    assert find(files_in([tmp_path]), "r1").lines
    (tmp_path / "events-cut.jsonl.gz").write_bytes((tmp_path / "events-old.jsonl.1.gz").read_bytes()[:-12])
    assert len(find(files_in([tmp_path]), "r1").survey.unread) == 1


def test_cut_and_foreign_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    journal = Journal(EventSettings(tmp_path), WRITER)
    journal.take([(1.79e9, offered(1))], 0)
    whole = journal.path.read_bytes()
    foreign = b'{"schema":"vllm-kv-connector-v1","ts":1}\nnot json\n\xff\xfe\n\n[1, 2]\n' + b"x" * 100_000 + b"\n"
    journal.path.write_bytes(foreign + whole + whole.splitlines()[1][:40])
    survey = find(files_in([tmp_path]), "r1").survey
    assert (survey.lines, survey.skipped) == (2, 7)


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(EventSettings(tmp_path), WRITER)
    journal.close()
    journal.path.unlink()
    journal.path.symlink_to("/dev/full")
    for number in range(3):
        journal.take([(1.79e9, offered(number))], 0)
    assert journal.lost == 3
    assert "cannot be written" in caplog.text
    journal.path.unlink()
    journal.take([(1.79e9, offered(9))], 0)
    survey = Survey()
    assert [line.event for line in lines_of(journal.path, survey)] == [EventKind.DROPPED, EventKind.GRANTED]
    assert survey.dropped == journal.lost == 3, "it goes on when there is room again, and says what is missing"
    journal.take([(1.79e9, offered(10))], 0)
    assert kinds(journal.path)[2:] == [EventKind.GRANTED], "once"


def test_a_directory_that_goes_away_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    journal = Journal(EventSettings(folder, megabytes=1), WRITER)
    shutil.rmtree(folder)
    journal.take([(1.79e9, offered(n)) for n in range(500)], 0)
    assert journal.lost == 500, "nobody can read what is written to a deleted file"
    folder.mkdir()
    journal.take([(1.79e9, offered(9))], 0)
    assert EventKind.GRANTED in kinds(journal.path), "it goes on when the directory is there again"


def test_what_finds_no_room_is_counted_and_dropped(tmp_path: Path) -> None:
    recorder = FactRecorder([journal := Journal(EventSettings(tmp_path), WRITER), kept := Kept()], limit=3)
    for number in range(10):
        recorder.hear(offered(number))
    recorder.flush()
    recorder.hear(offered(10))
    recorder.flush()
    assert (len(kept.heard), kept.dropped, recorder.dropped) == (4, 7, 7)
    survey = Survey()
    assert EventKind.DROPPED in [line.event for line in lines_of(journal.path, survey)]
    assert survey.dropped == 7


def test_hearing_waits_for_nobody() -> None:
    """A sink that hangs holds up its own thread alone."""
    go_on = threading.Event()

    class Hanging(Kept):
        def take(self, heard: Sequence[Heard], dropped: int) -> None:
            super().take(heard, dropped)
            go_on.wait(20)

    recorder = FactRecorder([Hanging()], limit=100, period_s=0.001)
    recorder.start()
    begun = time.monotonic()
    for number in range(1000):
        recorder.hear(offered(number))
    took = time.monotonic() - begun
    go_on.set()
    recorder.close()
    assert took < 1.0
    assert recorder.dropped


def test_a_sink_that_fails_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class FailingTwice(Kept):
        calls = 0

        def take(self, heard: Sequence[Heard], dropped: int) -> None:
            self.calls += 1
            if self.calls <= 2:
                raise ZeroDivisionError(len(heard), dropped)
            super().take(heard, dropped)

    recorder = FactRecorder([failing := FailingTwice(), kept := Kept()])
    for number in range(4):
        recorder.hear(offered(number))
        recorder.flush()
    assert (len(kept.heard), kept.dropped) == (4, 0)
    assert (len(failing.heard), failing.dropped) == (2, 2), "what it has lost is told to it once, and to nobody else"
    assert "lost by an error" in caplog.text


def test_a_killed_process_has_written_all_but_its_last_moment(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from kvlease.events.journal import Journal
from kvlease.events.recorder import FactRecorder
from kvlease.events.settings import EventSettings
from tests.events.test_journal import WRITER, offered
recorder = FactRecorder([Journal(EventSettings(Path({str(tmp_path)!r})), WRITER)])
recorder.start()
recorder.hear(offered(1))
time.sleep(0.7)
print("now", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert find(files_in([tmp_path]), "r1").lines


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kv_lease_events": 7}, "must be a directory"),
        ({"kv_lease_events": ""}, "must be a directory"),
        ({"kv_lease_events": "/tmp", "kv_lease_events_sample": 1.5}, r"kv_lease_events_sample is 1\.5: .* from 0 to 1"),
        ({"kv_lease_events": "/tmp", "kv_lease_events_sample": True}, "must be a number"),
        ({"kv_lease_events_mb": 0}, "kv_lease_events_mb is 0"),
        ({"kv_lease_events_mb": "64"}, "for example"),
    ],
)
def test_a_bad_setting_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        event_settings(settings)


def test_nobody_who_does_not_ask_gets_events() -> None:
    assert event_settings({}) is None


def test_a_directory_in_which_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"no file can be written \(.*\): make it a directory"):
        check_folder(tmp_path / "file" / "events")


def test_places_without_events_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoEvents, match="is it the kv_lease_events"):
        files_in([tmp_path])
    with pytest.raises(NoEvents, match="neither a file nor a directory"):
        files_in([tmp_path / "missing"])
