"""Prompts that begin alike prefer the same engines, whoever else joins or leaves."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.routing.affinity import PREFIX_BYTES, gives_way, keys_of, ranked

ENGINES = [f"http://p{number}" for number in range(8)]
SHORT, MIDDLE, _ = PREFIX_BYTES


def test_a_prompt_has_a_key_for_each_length_that_it_has() -> None:
    assert keys_of(b"") == ()
    assert len(keys_of(b"short")) == 1
    assert [len(keys_of(b"x" * length)) for length in PREFIX_BYTES] == [1, 2, 3]
    assert keys_of(b"x" * 20_000) == keys_of(b"x" * 99_000), "more is not looked at"


def test_what_begins_alike_has_the_same_first_keys() -> None:
    system = b"s" * SHORT
    one, other = keys_of(system + b"a" * MIDDLE), keys_of(system + b"b" * MIDDLE)
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_a_shared_beginning_chooses_half_of_the_engines_and_a_longer_one_among_them() -> None:
    system = b"s" * SHORT
    firsts = Counter(ranked(keys_of(system + bytes([number]) * MIDDLE), ENGINES)[0] for number in range(200))
    assert set(firsts) == set(ranked(keys_of(system), ENGINES)[:4])
    assert min(firsts.values()) > 20


def test_a_session_stays_where_it_is_while_it_grows() -> None:
    turns = [b"s" * SHORT + b"t" * length for length in (0, MIDDLE, 20_000)]
    assert len({ranked(keys_of(turn, "session 1"), ENGINES)[0] for turn in turns}) == 1
    others = {ranked(keys_of(turns[0], f"session {number}"), ENGINES)[0] for number in range(50)}
    assert len(others) == 4
    assert len(keys_of(b"", "\ud800")) == 1, "a header may hold anything"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=600), st.sets(st.sampled_from(ENGINES), min_size=1))
def test_every_engine_is_ranked_once_and_the_order_in_which_they_joined_is_nothing(
    beginning: bytes, engines: set[str]
) -> None:
    keys = keys_of(beginning)
    order = ranked(keys, sorted(engines))
    assert sorted(order) == sorted(engines)
    assert not keys or ranked(keys, sorted(engines, reverse=True)) == order


def test_one_key_moves_the_prompts_of_the_engine_that_left_alone() -> None:
    prompts = [keys_of(bytes([number]) * 100) for number in range(100)]
    before = [ranked(keys, ENGINES)[0] for keys in prompts]
    after = [ranked(keys, ENGINES[:-1])[0] for keys in prompts]
    assert {was for was, now in zip(before, after, strict=True) if was != now} == {ENGINES[-1]}


def test_an_engine_gives_way_where_it_has_much_more_to_do() -> None:
    assert not gives_way(3.0, 1.0)
    assert gives_way(3.1, 1.0)
    assert not gives_way(15.0, 10.0)
    assert gives_way(15.1, 10.0)
    assert not gives_way(5.0, 5.0), "the least loaded one never does"
