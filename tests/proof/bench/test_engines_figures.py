"""Ratios and goals are made from turns of real engines, and tell a goal that is met from noise."""

import json
from dataclasses import replace

import pytest

from proof.bench.engines.client import AnswerSeen, Block, ClientTraffic, answers
from proof.bench.engines.figures import (
    AGAIN,
    MEASURES,
    OURS,
    STOCK,
    Turn,
    TurnSample,
    by_start,
    curves,
    describe_answers,
    goals,
    median_interval,
    ratios,
    rows,
    sample_of,
)
from proof.realengines.engine import EngineError
from tests.proof.bench.spreads import known

THROUGHPUT, FIRST_TOKEN = MEASURES[0], MEASURES[1]
SHORT = ClientTraffic("short", 256, 32, clients=8, requests=40)
SAME = {STOCK: 0, AGAIN: 0, OURS: 0}
LONG = ClientTraffic("long", 2500, 16, clients=4, requests=12)


def sample(throughput: float, first_token_ms: float = 100.0) -> TurnSample:
    return TurnSample(throughput, first_token_ms, token_ms=10.0, producer_ms=50.0, decoder_ms=50.0)


def turns(ours: list[float], first_token_ms: float = 100.0, traffic: ClientTraffic = SHORT) -> list[Turn]:
    """Turns with engines of their own. kvlease answers `ours` requests a second, one number a turn, stock always 10."""
    return [
        Turn(start, traffic, {STOCK: sample(10), AGAIN: sample(10), OURS: sample(o, first_token_ms)}, SAME)
        for start, o in enumerate(ours)
    ]


def test_ratios_are_within_a_turn() -> None:
    """A machine that slows down between the turns changes no ratio."""
    slowing = [
        Turn(0, SHORT, {STOCK: sample(10 / n), AGAIN: sample(10 / n), OURS: sample(9 / n)}, SAME) for n in range(1, 5)
    ]
    assert ratios(slowing, THROUGHPUT, OURS) == pytest.approx([0.9] * 4)
    assert ratios(slowing, THROUGHPUT, AGAIN) == pytest.approx([1.0] * 4)


@pytest.mark.parametrize(
    ("ours", "met"),
    [
        ([10.0] * 12, True),
        # A goal is not missed by being better than stock.
        ([12.0] * 12, True),
        ([9.91] * 12, True),
        ([9.8] * 12, False),
        # The median is good, but not known to within one per cent.
        ([9.0, 11.0] * 3 + [10.0] * 3, None),
        # These are too few to know the median.
        ([10.0] * 5, None),
    ],
)
def test_a_goal_is_met_or_missed_only_where_the_median_is_known(ours: list[float], met: bool | None) -> None:
    assert goals(turns(ours))[0].met is met


def test_turns_of_one_start_are_one_value() -> None:
    """Engines that happen to be slow are slow in each of their turns: a hundred of them say no more than one."""
    slow = [replace(turn, start=0) for turn in turns([9.0] * 100)]
    assert goals(slow)[0].met is None
    quick = [replace(turn, start=turn.start + 1) for turn in turns([10.0] * 6)]
    assert by_start(slow + quick, THROUGHPUT, OURS) == [0.9] + [1.0] * 6


def test_more_is_worse_for_times_and_better_for_throughput() -> None:
    assert [goal.met for goal in goals(turns([10.0] * 12, first_token_ms=105.0))] == [True, False, True]
    assert [goal.met for goal in goals(turns([10.0] * 12, first_token_ms=95.0))] == [True, True, True]


def test_the_median_lies_between_two_of_the_values() -> None:
    """The median of ten values lies at 95 % between the second and the ninth (binomial: 97.9 %)."""
    assert median_interval([float(n) for n in (5, 1, 9, 3, 7, 2, 8, 4, 10, 6)]) == (2.0, 9.0)
    assert median_interval([1.0] * 5) is None


def test_rows_for_each_traffic_then_all_together_and_stock_against_itself() -> None:
    found = rows(turns([9.0] * 2) + turns([11.0] * 2, traffic=LONG))
    by_what = {row.what: row for row in found}
    short, long, both = (known(by_what[f"throughput, {of}"].ratio) for of in ("short", "long", "all traffic"))
    assert (short.median, long.median, both.count) == (0.9, 1.1, 4)
    assert known(by_what["output, long"].ours).median == 11 * LONG.answer_tokens
    again = known(by_what["throughput, stock against stock"].ratio)
    assert (again.least, again.most) == (1.0, 1.0)
    assert [len(points) for points in curves(turns([9.0] * 2))[0].series.values()] == [2, 2]


def test_answers_that_are_not_stocks_are_told() -> None:
    assert "the same 80 answers" in describe_answers(turns([10.0] * 2))
    wrong = [replace(turn, different={STOCK: 0, AGAIN: 0, OURS: 3}) for turn in turns([10.0] * 2)]
    assert "Of 80 answers, 0 of stock again's, 6 of kvlease's were not the same" in describe_answers(wrong)


def seen(ids: list[list[int]], prompt: str = "p") -> AnswerSeen:
    """A stream with these tokens in its events, which is cut into pieces anywhere."""
    events = [f"data: {json.dumps({'choices': [{'token_ids': some}]})}\n\n".encode() for some in ids]
    stream = b"".join(events) + b"data: [DONE]\n\n"
    return AnswerSeen(prompt, began=1.0, first=1.5, last=2.5, pieces=[stream[:20], stream[20:]])


def test_times_of_a_request() -> None:
    block = Block(wall_s=2.0, seen=[seen([[1], [2, 3]])] * 4)
    found = sample_of(block, answer_tokens=3, processor_s=(0.2, 0.4))
    assert (found.throughput, found.first_token_ms, found.token_ms) == (2.0, 500.0, 500.0)
    assert (found.producer_ms, found.decoder_ms) == (50.0, 100.0)


def test_times_are_means_of_the_requests() -> None:
    """Times are means, since requests take turns in being first: their median would be chance."""
    late = replace(seen([[1], [2, 3]]), first=2.1)
    found = sample_of(Block(2.0, [seen([[1], [2, 3]])] * 2 + [late]), answer_tokens=3, processor_s=(0.2, 0.4))
    assert found.first_token_ms == pytest.approx(700.0)
    assert found.token_ms == pytest.approx(400.0)


def test_answers_are_read_from_the_stream() -> None:
    assert answers(Block(1.0, [seen([[1], [2, 3]])]), 3) == {"p": (1, 2, 3)}


def test_a_short_answer_and_an_error_in_the_stream_are_not_measured() -> None:
    with pytest.raises(EngineError, match="2 tokens and not 3"):
        answers(Block(1.0, [seen([[1, 2]])]), 3)
    failed = AnswerSeen("p", 0.0, pieces=[b'data: {"error": {"message": "gone"}}\n\n'])
    with pytest.raises(EngineError, match="gone"):
        answers(Block(1.0, [failed]), 3)
