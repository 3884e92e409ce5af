"""A failover is judged by what its clients saw, and a scene in which nobody waited keeps no promise."""

from dataclasses import replace
from typing import Any

import pytest

from proof.failover.judge import broken
from proof.failover.outcome import SceneRun, StreamEnd
from proof.failover.report import describe_scene, document, table

FAULT_AT = 100.0


def request(**other: Any) -> StreamEnd:
    """A request that waits for its first token when it happens, and is answered rightly, but for what is given."""
    usual: dict[str, Any] = {
        "fate": "right",
        "prompt_tokens": 500,
        "began_at": 99.0,
        "first_at": 101.0,
        "ended_at": 103.0,
        "status": 200,
    }
    return StreamEnd(**{**usual, **other})


STREAMING = request(first_at=99.5)


def scene(*requests: StreamEnd, **other: Any) -> SceneRun:
    asked = requests or (request(), STREAMING)
    usual: dict[str, Any] = {
        "arm": "kvlease",
        "fault": "killed",
        "fault_at": FAULT_AT,
        "requests": asked,
        "prefills": len(asked),
        "prefilled_tokens": 500 * len(asked),
        "left": 0,
    }
    return SceneRun(**{**usual, **other})


def test_requests_that_are_all_answered_break_nothing() -> None:
    good = scene()
    assert broken([good]) == []
    assert (list(good.without_token()), list(good.with_part())) == ([request()], [STREAMING])


@pytest.mark.parametrize(
    "bad",
    [
        scene(request(fate="lost", first_at=None)),
        # It got its first token after the fault, and then the stream ended, whatever was said of it.
        scene(request(fate="broken-off")),
        scene(request(fate="cut")),
        scene(request(fate="wrong")),
        scene(request(), replace(STREAMING, fate="wrong")),
        scene(request(), replace(STREAMING, fate="cut")),
        scene(prefills=3),
        scene(left=1),
        scene(STREAMING),
    ],
)
def test_each_promise_can_be_broken(bad: SceneRun) -> None:
    assert len(broken([bad])) == 1
    assert broken([replace(bad, arm="toy")]) == [], "nothing is promised of the others"


def test_a_stream_that_ends_with_a_word_is_no_broken_promise() -> None:
    """Nobody can take back what a client has got: a stream whose D dies may end with an error event."""
    assert broken([scene(request(), replace(STREAMING, fate="broken-off"))]) == []


def test_what_ended_before_the_fault_counts_for_nothing() -> None:
    early = request(ended_at=99.9, fate="lost", first_at=None)
    run = scene(request(), early)
    assert (run.lost, list(run.without_token()), list(run.with_part())) == (0, [request()], [])


def test_a_p_that_was_killed_has_no_count() -> None:
    run = scene(fault="p-killed", prefills=None, prefilled_tokens=None)
    assert (run.again, run.tokens_again) == (None, None)
    assert broken([run]) == []


def test_the_table_and_the_file_have_every_figure() -> None:
    lost = request(fate="lost", first_at=None, status=500, said="HTTP 500")
    runs = [scene(), scene(lost, STREAMING, replace(STREAMING, fate="cut"), arm="toy", prefills=5, left=7)]
    text = table(runs).markdown()
    assert "| requests without a token lost | 0 of 1 | 1 of 1 | none |" in text
    assert "| streams cut without a word | 0 of 1 | 1 of 2 | none |" in text
    assert "| prompts prefilled twice | 0 | 2 | none |" in text
    assert "| blocks left on P | 0 | 7 | none |" in text
    first, second = document(runs)["scenes"]
    assert (first["requests"][0]["began_at"], first["wrong_answers"]) == (-1.0, 0)
    assert (second["requests_without_a_token_lost"], second["requests"][0]["said"]) == (1, "HTTP 500")
    said = "3 requests: 1 lost, 1 right, 1 cut; 1 of 1 without a token lost; 2 prompts prefilled twice"
    assert said in describe_scene(runs[1])
