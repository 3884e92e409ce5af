"""The decision which process is started when, with a clock that the tests move."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.up.plan import LaunchRole
from kvlease.up.schedule import BackOff
from kvlease.up.supervision import EndOrder, ProcessPhase, StartOrder, Supervision

PAIR: Mapping[str, LaunchRole] = {"prefill-0": "prefill", "decode-0": "decode", "router": "router"}
MANY: Mapping[str, LaunchRole] = {
    "prefill-0": "prefill",
    **{f"decode-{n}": "decode" for n in range(3)},
    "router": "router",
}


def supervision(roles: Mapping[str, LaunchRole] = PAIR, at_once: int = 2) -> Supervision:
    return Supervision(roles, at_once, start_limit_s=100.0, back_off=BackOff(first_s=1.0, most_s=8.0, healthy_s=60.0))


def starts(them: Supervision, now: float) -> list[str]:
    orders = [order.name for order in them.due(now) if isinstance(order, StartOrder)]
    for name in orders:
        them.begun(now, name)
    return orders


def all_serve(them: Supervision, now: float) -> Supervision:
    while names := starts(them, now):
        for name in names:
            them.ready(now, name)
    assert them.all_ready
    return them


def test_engines_start_first_and_the_router_when_one_of_each_role_serves() -> None:
    them = supervision()
    assert starts(them, 0.0) == ["prefill-0", "decode-0"]
    them.ready(1.0, "prefill-0")
    assert starts(them, 1.0) == []
    them.ready(2.0, "decode-0")
    assert starts(them, 2.0) == ["router"]
    assert not them.all_ready
    them.ready(3.0, "router")
    assert them.all_ready


def test_no_more_engines_start_at_once_than_are_allowed() -> None:
    them = supervision(MANY)
    assert starts(them, 0.0) == ["prefill-0", "decode-0"]
    them.ready(1.0, "decode-0")
    assert starts(them, 1.0) == ["decode-1"]
    them.ready(2.0, "prefill-0")
    assert starts(them, 2.0) == ["decode-2", "router"]
    # The router takes no place of an engine's.
    them.ready(5.0, "decode-1")
    them.ended(6.0, "decode-0", "exit 1")
    assert starts(them, 7.0) == ["decode-0"]


def test_an_engine_that_ends_is_started_again_and_counted() -> None:
    them = all_serve(supervision(), 0.0)
    assert them.ended(5.0, "decode-0", "killed by SIGKILL") == 1.0
    assert starts(them, 5.5) == []
    assert starts(them, 6.0) == ["decode-0"]
    decode = them.processes["decode-0"]
    assert (decode.restarts, decode.phase, decode.last_end) == (1, ProcessPhase.STARTING, "killed by SIGKILL")
    assert them.failed is None


def test_pauses_double_up_to_the_limit_and_begin_anew_after_good_times() -> None:
    them = all_serve(supervision(), 0.0)
    now, pauses = 0.0, []
    for _ in range(6):
        pauses.append(them.ended(now, "decode-0", "exit 1"))
        now += pauses[-1]
        assert starts(them, now) == ["decode-0"]
        them.ready(now, "decode-0")
        now += 59.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert them.ended(now + 1.0, "decode-0", "exit 1") == 1.0
    assert BackOff(most_s=8.0).pause_s(1_000_000) == 8.0


def test_the_router_is_started_again_even_without_engines() -> None:
    them = all_serve(supervision(), 0.0)
    them.ended(5.0, "prefill-0", "exit 1")
    them.ended(5.0, "router", "exit 1")
    assert "router" in starts(them, 6.0)


@pytest.mark.parametrize("name", ["prefill-0", "router"])
def test_a_process_that_never_served_is_not_tried_again(name: str) -> None:
    them = supervision()
    starts(them, 0.0)
    if name == "router":
        them.ready(0.0, "prefill-0")
        them.ready(0.0, "decode-0")
        starts(them, 0.0)
    them.ended(3.0, name, "exit 2")
    assert them.failed == name
    assert them.due(100.0) == []


def test_an_engine_that_takes_too_long_is_ended_and_tried_again_once_it_has_served() -> None:
    them = all_serve(supervision(), 0.0)
    them.ended(10.0, "decode-0", "exit 1")
    starts(them, 11.0)
    assert them.due(111.0) == []
    (order,) = them.due(111.5)
    assert order == EndOrder("decode-0", "it did not serve within 100 s")
    assert them.ended(112.0, "decode-0", "killed by SIGKILL") == 2.0


def test_nothing_is_started_once_all_is_to_end() -> None:
    them = supervision()
    them.stop()
    assert them.due(0.0) == []
    them.ended(0.0, "prefill-0", "exit 0")
    assert them.failed is None


def test_a_process_that_ended_meanwhile_is_not_ready() -> None:
    them = all_serve(supervision(), 0.0)
    them.ended(5.0, "decode-0", "exit 1")
    them.ready(5.0, "decode-0")
    assert them.processes["decode-0"].phase is ProcessPhase.WAITING


EVENTS = st.lists(
    st.tuples(st.sampled_from(["tick", "ready", "end"]), st.integers(0, len(MANY) - 1), st.floats(0, 90)), max_size=40
)


@settings(max_examples=25, deadline=None)
@given(EVENTS)
def test_whatever_happens_no_rule_of_starting_is_broken(events: list[tuple[str, int, float]]) -> None:
    them, now = all_serve(supervision(MANY, at_once=4), 0.0), 0.0
    them.starts_at_once = 2
    begun = dict.fromkeys(MANY, 1)
    ended = dict.fromkeys(MANY, 0)
    for what, number, passes_s in events:
        name, now = list(MANY)[number], now + passes_s
        process = them.processes[name]
        if what == "ready":
            them.ready(now, name)
        elif what == "end" and process.phase is not ProcessPhase.WAITING:
            pause_s = them.ended(now, name, "exit 1")
            ended[name] += 1
            assert 1.0 <= pause_s <= 8.0
            assert process.start_at == now + pause_s
        elif what == "tick":
            for started in starts(them, now):
                begun[started] += 1
                assert them.processes[started].start_at <= now
        assert them.failed is None
        assert process.restarts == begun[name] - 1
        assert begun[name] - ended[name] == (process.phase is not ProcessPhase.WAITING)
        starting = [each for each in them.processes.values() if each.phase is ProcessPhase.STARTING]
        assert sum(each.role != "router" for each in starting) <= 2
