"""The stories that the real protocol writes: each ending is told as what it is."""

from pathlib import Path

import pytest

from kvlease.events.endings import Ending
from kvlease.events.finding import find
from kvlease.events.reading import files_in
from kvlease.events.schema import EventKind
from kvlease.protocol import Fingerprint, LeaseRef
from tests.events.stage import P_SIDE, PROMPT, Stage

ON_P, ON_D = "cmpl-abc-0-11111111", "cmpl-abc-0-22222222"
"""One request of a client's, under the names that two engines of vLLM's give it."""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def granted(stage: Stage) -> LeaseRef:
    ref = stage.p.prefill(ON_P)
    assert ref is not None
    return ref


def handed_over(stage: Stage) -> LeaseRef:
    ref = granted(stage)
    stage.run(0.2)
    assert stage.d.d.take_on(ON_D, PROMPT, ref, P_SIDE)
    stage.run(0.3)
    return ref


def test_a_good_read(stage: Stage) -> None:
    handed_over(stage)
    assert stage.d.read(ON_D)
    stage.run(0.5)
    story = stage.story("abc")
    (chapter,) = story.chapters
    assert story.ending is Ending.USED
    assert (story.producers, story.consumers) == (["prefill-0"], ["decode-1"])
    kinds = [each.event for each in chapter.happenings if each.event is not EventKind.PRODUCER_CHANGED]
    assert kinds == [
        EventKind.GRANTED,
        EventKind.WANTED,
        EventKind.CLAIMED,
        EventKind.HELD,
        EventKind.READ_BEGUN,
        EventKind.DATA_ARRIVED,
        EventKind.FENCE_CHECKED,
        EventKind.HAND_OFF_ENDED,
        EventKind.LET_GO,
        EventKind.LAPSED,
    ]
    phases = {phase.name: phase.seconds for phase in chapter.phases}
    assert phases["from the grant until a request wanted it"] == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("given", ["abc", "cmpl-abc", "cmpl-abc-0", ON_P, ON_D])
def test_a_request_is_found_by_every_name_of_it(stage: Stage, given: str) -> None:
    handed_over(stage)
    assert stage.story(given).consumers == ["decode-1"]


def test_a_request_with_another_name_on_each_engine_is_joined_by_its_lease(stage: Stage) -> None:
    ref = granted(stage)
    stage.run(0.2)
    stage.d.d.take_on("cmpl-other-0-33333333", PROMPT, ref, P_SIDE)
    stage.run(0.2)
    assert stage.story("abc").consumers == ["decode-1"]
    assert stage.story("other").producers == ["prefill-0"]
    assert stage.story(f"{ref.token:016x}").producers == ["prefill-0"], "the token of its lease names it, too"


def test_a_late_read_of_reused_blocks(stage: Stage) -> None:
    ref = granted(stage)
    stage.run(31)
    stage.p.reuse()
    stage.d.d.take_on(ON_D, PROMPT, ref, P_SIDE)
    assert not stage.d.read(ON_D)
    stage.run(0.5)
    story = stage.story("abc")
    assert story.ending is Ending.LATE
    assert "30 s" in story.verdict
    assert "kv_lease_duration" in story.advice


def test_a_late_read_in_time(stage: Stage) -> None:
    ref = granted(stage)
    stage.run(31)
    stage.d.d.take_on(ON_D, PROMPT, ref, P_SIDE)
    stage.run(0.3)
    assert stage.d.read(ON_D)
    stage.run(0.5)
    assert stage.story("abc").ending is Ending.LATE_USED


def test_a_crash(stage: Stage) -> None:
    handed_over(stage)
    stage.kill(stage.d)
    stage.run(5)
    story = stage.story("abc")
    assert story.ending is Ending.DIED
    assert EventKind.CONSUMER_DEAD in {each.event for each in story.chapters[0].happenings}


def test_a_crash_and_another_that_takes_over(stage: Stage) -> None:
    """The new attempt is told, not the death of the old one."""
    ref = handed_over(stage)
    stage.kill(stage.d)
    stage.run(0.5)
    successor = stage.p  # Any engine may read; P reads from itself here.
    successor.d.take_on(ON_D, PROMPT, ref, P_SIDE)
    stage.run(0.3)
    assert successor.read(ON_D)
    stage.run(0.5)
    assert stage.story("abc").ending in (Ending.USED, Ending.LATE_USED)


def test_a_decode_engine_that_stands_still(stage: Stage) -> None:
    handed_over(stage)
    stage.stop(stage.d)
    stage.run(60)
    story = stage.story("abc")
    assert story.ending is Ending.SILENT


def test_nobody_asks(stage: Stage) -> None:
    granted(stage)
    stage.run(31)
    story = stage.story("abc")
    assert story.ending is Ending.NOT_ASKED
    assert "no events of it" in story.verdict
    assert story.consumers == []


def test_it_still_waits(stage: Stage) -> None:
    granted(stage)
    assert stage.story("abc").ending is Ending.UNDER_WAY


def test_another_prompt(stage: Stage) -> None:
    ref = granted(stage)
    stage.run(0.1)
    assert not stage.d.d.take_on(ON_D, Fingerprint(tokens=191, digest=8), ref, P_SIDE)
    story = stage.story("abc")
    assert story.ending is Ending.OTHER_PROMPT
    assert "length" in story.verdict
    assert "190" in story.verdict


def test_a_bad_reference(stage: Stage) -> None:
    granted(stage)
    stage.run(0.1)
    stage.d.d.refuse(ON_D, "kv_lease has no token")
    assert stage.story("abc").ending is Ending.BAD_REFERENCE


def test_no_slot(stage: Stage) -> None:
    for number in range(4):
        assert stage.p.prefill(f"cmpl-{number}-0", blocks=1) is not None
    assert stage.p.prefill(ON_P, blocks=1) is None
    story = stage.story("abc")
    assert story.ending is Ending.DECLINED
    assert "kv_lease_fence_slots" in story.advice


def test_a_reset(stage: Stage) -> None:
    handed_over(stage)
    stage.p.p.reset()
    stage.run(1)
    assert not stage.d.read(ON_D)
    assert stage.story("abc").ending is Ending.RESET


def test_a_request_that_is_over_before_it_is_read(stage: Stage) -> None:
    handed_over(stage)
    stage.d.d.release(ON_D)
    stage.run(0.5)
    assert stage.story("abc").ending is Ending.LEFT


def test_the_decode_engines_files_alone(stage: Stage) -> None:
    handed_over(stage)
    story = stage.story("abc", stage.d)
    assert story.producers == []
    assert "P's files" in story.advice


def test_the_prefill_engines_files_alone(stage: Stage) -> None:
    handed_over(stage)
    stage.d.read(ON_D)
    stage.run(0.5)
    story = stage.story("abc", stage.p)
    assert story.ending is Ending.USED
    assert "decode engine's files" in story.advice


@pytest.mark.parametrize("ahead_s", [3.0, -7.5])
def test_clocks_that_differ(tmp_path: Path, ahead_s: float) -> None:
    """Causes are told before what they cause, and the difference is estimated."""
    stage = Stage(tmp_path, d_ahead_s=ahead_s)
    handed_over(stage)
    stage.d.read(ON_D)
    stage.run(0.5)
    story = stage.story("abc")
    (clock,) = story.clocks
    assert clock.seconds == pytest.approx(ahead_s, abs=0.2)
    assert clock.margin_s < 0.3
    kinds = [each.event for each in story.chapters[0].happenings if each.lease is not None]
    assert kinds[:4] == [EventKind.GRANTED, EventKind.WANTED, EventKind.CLAIMED, EventKind.HELD]


def test_clocks_that_agree_are_left_alone(stage: Stage) -> None:
    handed_over(stage)
    assert [clock.seconds for clock in stage.story("abc").clocks] == [0.0]


def test_both_engines_write_the_same_leases_of_a_sample(tmp_path: Path) -> None:
    stage = Stage(tmp_path, sample=0.5)
    names = [f"cmpl-r{number}-0" for number in range(24)]
    for name in names:
        ref = stage.p.prefill(name, blocks=1)
        assert ref is not None
        stage.d.d.take_on(name, PROMPT, ref, P_SIDE)
        stage.run(0.1)
        stage.d.read(name)
        stage.run(0.2)
        stage.p.reuse()
    both = only_one = 0
    for name in names:
        on = {line.engine for line in find(files_in(stage.places()), name).lines if line.lease}
        both += len(on) == 2
        only_one += len(on) == 1
    assert only_one == 0
    assert 0 < both < len(names)
