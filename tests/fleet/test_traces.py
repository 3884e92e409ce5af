"""Recorded traces in two formats can be read and stretched, and bad lines are refused by their number."""

from itertools import islice
from pathlib import Path

import pytest

from kvlease.fleet.traffic.arrival import Arrival
from kvlease.fleet.traffic.traces import Skipped, Trace, TraceError, arrivals

MOONCAKE = """\
{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353, 2354]}
{"timestamp": 27482, "input_length": 12, "output_length": 0, "hash_ids": [0]}
{"timestamp": 30535.5, "input_length": 6472, "output_length": 26, "hash_ids": [46, 47, 2366]}
"""
AZURE_2023 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:47,396,109
2023-11-16 18:15:51.6805900,879,55
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01.009930+00:00,2399,6
2024-05-10 00:00:01.509930+00:00,76,0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def read(path: Path, text: str, **how: object) -> list[Arrival]:
    path.write_text(text)
    return list(arrivals(Trace(path, **how)))  # type: ignore[arg-type]


def times(found: list[Arrival]) -> list[float]:
    return [round(arrival.at, 6) for arrival in found]


def lengths(found: list[Arrival]) -> list[tuple[int, int]]:
    return [(arrival.prompt, arrival.output) for arrival in found]


def test_mooncakes_lines_are_known_by_their_content_and_begin_at_zero(file: Path) -> None:
    found = read(file, MOONCAKE)
    assert times(found) == [0.0, 0.0, 3.0535]
    assert lengths(found) == [(6955, 52), (12, 1), (6472, 26)], "an output of 0 tokens is played as 1"


def test_azures_times_of_2023_have_seven_digits_and_no_zone(file: Path) -> None:
    found = read(file, AZURE_2023)
    assert times(found) == [0.0, 0.31941, 5.0]
    assert lengths(found) == [(374, 44), (396, 109), (879, 55)]


def test_azures_times_of_2024_have_a_zone(file: Path) -> None:
    found = read(file, AZURE_2024)
    assert times(found) == [0.0, 1.0, 1.5]
    assert lengths(found) == [(2162, 5), (2399, 6), (76, 1)]


def test_columns_may_stand_in_another_order_beside_others(file: Path) -> None:
    found = read(file, "Model,GeneratedTokens,ContextTokens,TIMESTAMP\na,5,7,2024-05-10 00:00:00+00:00\n")
    assert lengths(found) == [(7, 5)]


@pytest.mark.parametrize("text", [MOONCAKE, AZURE_2023, AZURE_2024])
def test_ends_of_lines_byte_order_marks_and_empty_lines_do_not_matter(text: str, file: Path) -> None:
    plain = read(file, text)
    file.write_bytes(("\ufeff\n\n" + text.replace("\n", "\r\n\r\n")).encode())
    assert list(arrivals(Trace(file))) == plain


def test_a_rate_can_be_scaled(file: Path) -> None:
    assert times(read(file, AZURE_2024, speed=10.0)) == [0.0, 0.1, 0.15]


def test_a_trace_can_be_cut(file: Path) -> None:
    assert times(read(file, AZURE_2024, count=2)) == [0.0, 1.0]


def test_a_trace_can_be_repeated_one_mean_gap_after_its_end(file: Path) -> None:
    found = read(file, AZURE_2024, count=8)
    assert times(found) == [0.0, 1.0, 1.5, 2.25, 3.25, 3.75, 4.5, 5.5]
    assert lengths(found)[3:6] == lengths(found)[:3]


def test_a_trace_is_read_while_it_is_played(file: Path) -> None:
    """A trace is read while it is played, so a bad line does not matter to a run that ends before it."""
    file.write_text(AZURE_2024 + "nonsense\n")
    assert len(list(islice(arrivals(Trace(file)), 3))) == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", ["no request"]),
        ("a,b,c\n1,2,3\n", ["line 1", "Mooncake", "ContextTokens", "'a,b,c'"]),
        (MOONCAKE + "{", ["line 4", "'{'"]),
        (MOONCAKE + '{"timestamp": 40000, "input_length": 5}', ["line 4", "output_length"]),
        (
            MOONCAKE + '{"timestamp": 40000, "input_length": "x", "output_length": 1}',
            ["line 4", "$.input_length", "int"],
        ),
        (
            MOONCAKE + '{"timestamp": 40000, "input_length": 0, "output_length": 1}',
            ["line 4", "$.input_length", ">= 1"],
        ),
        (MOONCAKE + '{"timestamp": 1, "input_length": 1, "output_length": 1}', ["line 4", "before", "sort"]),
        (AZURE_2023 + "2023-11-16 18:15:52,12\n", ["line 5", "2 fields", "3"]),
        (AZURE_2023 + "18:15,12,3\n", ["line 5", "TIMESTAMP", "'18:15'", "such as"]),
        (AZURE_2023 + "2023-11-16 18:15:52,-4,3\n", ["line 5", "ContextTokens", "'-4'", "from 1"]),
        (AZURE_2023 + "2023-11-16 18:15:52,4,3.5\n", ["line 5", "GeneratedTokens", "'3.5'", "from 0"]),
        (AZURE_2023 + f"2023-11-16 18:15:52,4,{'9' * 5000}\n", ["line 5", "GeneratedTokens", "whole number"]),
        (AZURE_2023 + "2023-11-16 18:15:52,²,3\n", ["line 5", "ContextTokens", "whole number"]),
    ],
)
def test_a_bad_line_is_told_with_file_number_value_and_what_is_allowed(text: str, named: list[str], file: Path) -> None:
    with pytest.raises(TraceError) as caught:
        read(file, text)
    for part in (str(file), *named):
        assert part in str(caught.value)


def test_bad_lines_can_be_skipped_and_are_counted_once(file: Path) -> None:
    lines = AZURE_2024.splitlines()
    lines[2:2] = ["2024-05-10 00:00:00.5+00:00,-1,5", "nonsense"]
    file.write_text("\n".join(lines))
    skipped = Skipped()
    found = list(arrivals(Trace(file, count=6, skip_bad_lines=True), skipped))
    assert lengths(found)[:3] == lengths(read(file, AZURE_2024))
    assert len(found) == 6
    assert skipped.count == 2, "not once more with every repetition"
    assert "line 3" in skipped.first


def test_a_file_of_bad_lines_alone_is_no_trace(file: Path) -> None:
    with pytest.raises(TraceError, match=r"no request in it: .*line 2"):
        read(file, "TIMESTAMP,ContextTokens,GeneratedTokens\nx,y,z\n", skip_bad_lines=True)


def test_what_is_no_text_or_not_there_is_said(file: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        list(arrivals(Trace(file)))
    with pytest.raises(TraceError, match="Is a directory"):
        list(arrivals(Trace(file.parent)))
    file.write_bytes(b"\x80\x81\xff\xfe")
    with pytest.raises(TraceError, match="not text"):
        list(arrivals(Trace(file)))


def test_requests_that_all_come_at_once_cannot_be_repeated(file: Path) -> None:
    with pytest.raises(TraceError, match="same time"):
        read(file, '{"timestamp": 5, "input_length": 1, "output_length": 1}\n' * 3, count=4)


@pytest.mark.parametrize(("how", "named"), [({"speed": 0.0}, "0 times"), ({"count": 0}, "0 requests")])
def test_a_trace_cannot_be_played_in_every_way(how: dict[str, float], named: str, file: Path) -> None:
    with pytest.raises(TraceError, match=named):
        Trace(file, **how)  # type: ignore[arg-type]
