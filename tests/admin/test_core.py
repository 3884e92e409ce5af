"""The admin core: bytes in, bytes out, whatever the bytes are, and whether the agent lives or not."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.admin.answers import EngineHealth, Holding
from kvlease.admin.core import AdminCore
from kvlease.admin.questions import (
    MAX_LIMIT,
    MAX_QUESTION_BYTES,
    MAX_TEXT,
    DrainOrder,
    DrainQuestion,
    HealthQuestion,
    LeasesQuestion,
    ReleaseOrder,
    SessionsQuestion,
    TokenQuestion,
)
from tests.admin.doors import Door, PromptCore, decoded, short, whole
from tests.admin.engines import BLOCK_BYTES, TURN_S


def tokens_of(core: PromptCore, question: LeasesQuestion) -> list[str]:
    status, found = core.ask(question)
    assert status == 200
    return [lease["token"] for lease in found["leases"]]


def test_health_says_what_is_held_and_for_whom() -> None:
    door = Door()
    ref, _ = door.prefill("r", "s", blocks=3)
    door.claim("r", ref)
    status, body = door.core.ask(HealthQuestion())
    health = msgspec.convert(body, EngineHealth)
    assert status == 200
    assert (health.agent, health.draining, health.engine_id, health.pool_blocks) == ("up", False, "prefill-0", 100)
    assert (health.held.leases, health.held.claimed, health.held.tokens, health.held.blocks) == (2, 1, 128, 6)
    assert health.held.bytes == 6 * BLOCK_BYTES
    assert health.unheard.silent == health.unheard.dead == Holding(0, 0, 0, 0)
    assert (health.settings.duration_s, health.settings.fence_slots) == (6.0, 8)
    assert (health.sessions.consumers, health.sessions.producers) == (1, 0)
    door.pair.run(2.5, reads=False)
    _, silent = door.core.ask(HealthQuestion())
    assert silent["unheard"]["silent"]["leases"] == 1


def test_a_lease_is_shown_with_whoever_claims_it_and_without_its_whole_token() -> None:
    door = Door()
    ref, other = door.prefill("r", "s", blocks=3)
    door.claim("r", ref)
    _, found = door.core.ask(LeasesQuestion())
    first, second = found["leases"]
    assert (first["token"], first["request_id"], first["state"]) == (short(ref), "r", "claimed")
    assert (first["tokens"], first["blocks"], first["bytes"], first["cause"]) == (64, 3, 3 * BLOCK_BYTES, None)
    assert first["consumers"] == [{"incarnation": f"{door.pair.d.agent.incarnation:016x}", "engine_id": "d"}]
    assert 0.4 < first["age_s"] < 0.7
    assert 0 < first["remaining_s"] <= 6
    assert (second["state"], second["consumers"]) == ("granted", [])
    assert tokens_of(door.core, LeasesQuestion(full_tokens=True)) == [whole(ref), whole(other)]


def test_leases_are_filtered() -> None:
    door = Door()
    read, claimed, waiting = door.prefill("a-1", "a-2", "b-3")
    door.claim("a-1", read)
    door.read("a-1")
    door.claim("a-2", claimed)
    assert tokens_of(door.core, LeasesQuestion(state="lapsed")) == [short(read)]
    assert tokens_of(door.core, LeasesQuestion(state="granted")) == [short(waiting)]
    assert tokens_of(door.core, LeasesQuestion(consumer="d")) == [short(claimed)]
    assert tokens_of(door.core, LeasesQuestion(consumer="x")) == []
    assert tokens_of(door.core, LeasesQuestion(request="a-")) == [short(read), short(claimed)]
    door.prefill("c")
    assert tokens_of(door.core, LeasesQuestion(min_age_s=1.0)) == [short(read), short(claimed), short(waiting)]
    _, lapsed = door.core.ask(LeasesQuestion(state="lapsed"))
    assert (lapsed["leases"][0]["remaining_s"], lapsed["leases"][0]["cause"]) == (None, "released")


def test_what_clients_have_written_is_shown_escaped_and_cut() -> None:
    door = Door()
    door.prefill("\x1b[31mred\u202e\ud800", "x" * 1000)
    _, found = door.core.ask(LeasesQuestion())
    first, second = (lease["request_id"] for lease in found["leases"])
    assert first == "\\x1b[31mred\\u202e\\ud800"
    assert second == "x" * 256 + "…"


def test_sessions_are_shown_on_both_sides() -> None:
    door = Door()
    (ref,) = door.prefill("r", blocks=3)
    door.claim("r", ref)
    _, found = door.core.ask(SessionsQuestion())
    (consumer,) = found["consumers"]
    assert (consumer["engine_id"], consumer["state"], consumer["claims"], consumer["blocks"]) == ("d", "active", 1, 3)
    assert 0 <= consumer["silent_s"] < 1.1
    _, other = PromptCore(door.pair, door.pair.d).ask(SessionsQuestion())
    (producer,) = other["producers"]
    assert (producer["endpoint"], producer["state"], producer["leases"]) == ("p:1", "open", 1)
    assert 0 <= producer["last_ack_s"] < 1.1


def test_a_release_revokes_and_the_consumer_hears_of_it() -> None:
    door = Door()
    ref, kept = door.prefill("r", "s")
    for name, each in (("r", ref), ("s", kept)):
        door.claim(name, each)
    assert door.core.ask(ReleaseOrder(whole(ref))) == (200, {"released": True})
    door.pair.run(0.5)
    assert door.p.producer.counts["ends.revoked"] == 1
    assert tokens_of(door.core, LeasesQuestion()) == [short(kept)]
    assert list(door.pair.d.agent.take_lost()) == ["r"]
    assert door.core.ask(ReleaseOrder(whole(ref)))[0] == 404
    door.read("s")
    status, error = door.core.ask(ReleaseOrder(whole(kept)))
    assert (status, error["type"]) == (409, "Conflict")
    assert "over already (released)" in error["message"]


def test_a_release_that_comes_as_the_lease_ends_says_so() -> None:
    door = Door()
    (ref,) = door.prefill("r")
    future = super(PromptCore, door.core).answer(msgspec.json.encode(ReleaseOrder(whole(ref))))
    honest = door.p.agent.revoke
    door.p.agent.revoke = lambda token: (door.p.agent.release(token), honest(token))  # type: ignore[method-assign, assignment, func-returns-value]
    for _ in range(3):
        door.pair.run(TURN_S)
    status, error = decoded(future.result(0))
    assert (status, "was over before (released)" in error["message"]) == (409, True)


def test_a_drain_is_answered_at_once() -> None:
    door = Door()
    (ref,) = door.prefill("r")
    door.claim("r", ref)
    assert door.core.ask(DrainQuestion()) == (200, {"draining": False, "left": 1})
    assert door.core.ask(DrainOrder()) == (200, {"draining": True, "left": 1})
    door.p.producer.take_on("s", None)  # type: ignore[arg-type]
    door.p.producer.prepare("s")
    assert door.p.producer.counts["declined.draining"] == 1
    door.read("r")
    assert door.core.ask(DrainQuestion()) == (200, {"draining": True, "left": 0})
    assert door.core.ask(DrainOrder(False)) == (200, {"draining": False, "left": 0})


@pytest.mark.parametrize("end", ["die", "say_bye"])
def test_without_an_agent_everything_is_answered(end: str) -> None:
    door = Door()
    (ref,) = door.prefill("r")
    getattr(door.p.agent, end)()
    status, health = door.core.ask(HealthQuestion())
    assert (status, health["agent"]) == (200, "dead" if end == "die" else "up")
    assert tokens_of(door.core, LeasesQuestion()) == [short(ref)]
    assert door.core.ask(SessionsQuestion())[0] == 200
    assert door.core.ask(TokenQuestion(short(ref))) == (200, {"tokens": [whole(ref)]})
    assert door.core.ask(DrainOrder()) == (200, {"draining": True, "left": 1})
    status, error = door.core.ask(ReleaseOrder(whole(ref)))
    assert (status, error["type"]) == (503, "Unavailable")


def test_a_drain_wakes_an_engine_whose_agent_cannot() -> None:
    """Its leases are taken back in its steps, and an idle engine makes none by itself."""
    door = Door()
    door.prefill("r")
    door.p.agent.die()
    door.p.agent.progress()
    assert not door.p.agent.wants_step
    door.core.ask(DrainQuestion())
    assert door.p.agent.wants_step


def test_paging_is_stable_while_leases_come_and_go() -> None:
    door = Door()
    refs = door.prefill(*"abcdef", blocks=1)
    first = door.core.ask(LeasesQuestion(limit=2))[1]
    assert ([lease["request_id"] for lease in first["leases"]], first["more"], first["total"]) == (["a", "b"], True, 6)
    for ref in (refs[0], refs[1], refs[2]):
        door.core.ask(ReleaseOrder(whole(ref)))
    door.pair.run(0.1)
    door.prefill("g")
    second = door.core.ask(LeasesQuestion(limit=2, after=first["numbers"][-1]))[1]
    assert ([lease["request_id"] for lease in second["leases"]], second["more"]) == (["d", "e"], True)
    third = door.core.ask(LeasesQuestion(limit=2, after=second["numbers"][-1]))[1]
    assert ([lease["request_id"] for lease in third["leases"]], third["more"]) == (["f", "g"], False)
    assert door.core.ask(LeasesQuestion(after_rank=1))[1] == {"leases": [], "numbers": [], "more": False, "total": 4}


@settings(max_examples=30, deadline=None)
@given(payload=st.binary(max_size=200))
def test_bytes_that_are_no_question_are_answered_as_such(payload: bytes) -> None:
    status, error = decoded(Door().core.answer(payload).result(0))
    assert (status, error["code"], error["type"]) == (400, 400, "BadRequest")


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 4000,
        b'{"ask":"leases","limit":1001}',
        b'{"ask":"leases","what":1}',
        b'{"ask":"leases","request":"' + b"x" * 300 + b'"}',
        b'{"ask":"release","token":"abcdabcd"}',
        b'{"ask":"nothing"}',
        b" " * (MAX_QUESTION_BYTES + 1),
    ],
)
def test_a_question_beyond_its_bounds_is_none(payload: bytes) -> None:
    assert decoded(Door().core.answer(payload).result(0))[0] == 400


def test_the_longest_question_of_a_door_is_no_more_than_may_be_asked() -> None:
    """A control character is six bytes as JSON."""
    longest = LeasesQuestion(
        "granted", "\x01" * MAX_TEXT, "\x01" * MAX_TEXT, 1e9 / 3, MAX_LIMIT, 99_999, 10**15 - 1, True
    )
    assert Door().core.ask(longest)[0] == 200


def test_a_bug_is_told_to_whoever_asked() -> None:
    door = Door()
    door.prefill("r")
    door.p.producer.blocks = None  # type: ignore[assignment]
    door.pair.run = lambda *_: door.p.agent.turn(door.pair.clock.now)  # type: ignore[method-assign, assignment]
    status, error = door.core.ask(LeasesQuestion())
    assert (status, "AttributeError" in error["message"]) == (500, True)


def test_an_answer_that_nobody_waits_for_any_more_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A door gives up after a time, and the agent answers later."""
    door = Door()
    answer = AdminCore.answer(door.core, msgspec.json.encode(HealthQuestion()))
    answer.cancel()
    door.pair.run(TURN_S)
    assert caplog.text == ""
    assert answer.done()
