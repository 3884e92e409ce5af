"""Any sequence of facts, and any lines, make a story and never a traceback."""

from typing import Any, get_type_hints

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.events.endings import Ending
from kvlease.events.lines import LineMaker, Writer
from kvlease.events.names import client_id, hashes_of, request_hash
from kvlease.events.reading import Survey
from kvlease.events.schema import SCHEMA, EventKind, EventLine, Role
from kvlease.events.story import as_json, story_of
from kvlease.events.telling import WIDTH, told
from kvlease.protocol import engine_facts, facts

KINDS = [
    kind
    for module in (facts, engine_facts)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]
U64 = st.integers(0, 2**64 - 1)


SECONDS = st.floats(0, 1e6)


def facts_of(kind: type) -> st.SearchStrategy[Any]:
    """Facts of a kind, whose numbers are of the sizes that they have."""
    sizes: dict[Any, st.SearchStrategy[Any]] = {
        int: U64,
        float: SECONDS,
        int | None: st.none() | U64,
        float | None: st.none() | SECONDS,
        str: st.text(max_size=20),
    }
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: sizes[hint] for name, hint in hints.items() if hint in sizes})


SOME_FACTS = st.lists(
    st.tuples(st.floats(1.7e9, 1.8e9), st.one_of([facts_of(kind) for kind in KINDS])), min_size=1, max_size=12
)
WORDS = st.one_of(
    st.none(), st.sampled_from(["released", "expired", "orphaned", "intact", "revoked", "failed", "used", "?"])
)
NUMBERS = st.one_of(st.none(), st.floats(0, 1e6))
SOME_LINES = st.lists(
    st.builds(
        lambda ts, engine, role, event, lease, words, number, incarnation: EventLine(
            schema=SCHEMA,
            ts=ts,
            engine=engine,
            role=role,
            event=event,
            lease=lease,
            incarnation=incarnation,
            consumer=incarnation,
            producer=incarnation,
            cause=words,
            verdict=words,
            end=words,
            reason=words,
            state=words,
            age_s=number,
            claimed_s=number,
            term_s=number,
        ),
        st.floats(1.7e9, 1.8e9),
        st.sampled_from(["p", "d", "an engine with a name that is longer than its column"]),
        st.sampled_from(Role),
        st.sampled_from(EventKind),
        st.sampled_from([None, "11", "22"]),
        WORDS,
        NUMBERS,
        st.sampled_from([None, "00000000000000a1", "00000000000000d1"]),
    ),
    min_size=1,
    max_size=10,
)


def is_told(lines: list[EventLine]) -> None:
    story = story_of(lines)
    assert story.ending in Ending
    page = list(told(story, "abc", Survey()))
    assert page
    assert max(map(len, page)) <= WIDTH
    msgspec.json.encode(as_json(story, "abc", 0))


@settings(max_examples=40, deadline=None)
@given(SOME_FACTS)
def test_any_facts_make_a_story(heard: list[tuple[float, Any]]) -> None:
    lines = list(LineMaker(Writer("engine", 0, 7), 1.0).lines(heard))
    encoded = [msgspec.json.encode(line) for line in lines]
    assert [msgspec.json.decode(each, type=EventLine) for each in encoded] == lines
    if lines:
        is_told(lines)


@settings(max_examples=40, deadline=None)
@given(SOME_LINES)
def test_any_lines_make_a_story(lines: list[EventLine]) -> None:
    is_told(lines)


@settings(max_examples=40, deadline=None)
@given(
    st.text(min_size=1, max_size=40),
    st.sampled_from(["cmpl-{}-0", "cmpl-{}-17", "chatcmpl-{}", "3_cmpl-{}-0", "1_chatcmpl-{}"]),
    st.sampled_from(["", "-0a1b2c3d"]),
)
def test_a_request_is_found_by_the_id_that_its_client_knows(known: str, form: str, tail: str) -> None:
    assert request_hash(form.format(known) + tail) in hashes_of(known)


def test_what_an_api_server_adds_is_taken_away() -> None:
    uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    for name in (f"cmpl-{uuid}-0-1a2b3c4d", f"chatcmpl-{uuid}-1a2b3c4d", f"2_cmpl-{uuid}-0-1a2b3c4d", uuid):
        assert client_id(name) == uuid
