"""The types of arguments take what is allowed, and say what is wrong with anything else."""

import argparse
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from kvlease.console.arguments import add_out, command_line, one_of, real, several, whole


def test_what_is_allowed_is_taken() -> None:
    assert whole(0, 10)("007") == 7
    assert real(0.5, 10)("1e0") == 1.0
    assert one_of("fruit", ["pear", "plum"])("plum") == "plum"
    assert several(whole(0, 10), "3,7")("3, 3,1") == (3, 3, 1)
    assert several(whole(0, 10), "3,7", "none")("none") == ()


@pytest.mark.parametrize("text", ["", "x", "-1", "11", "1.0", "1_0", "٣", "²", " 3", "9" * 5000])
def test_what_is_no_whole_number_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ArgumentTypeError) as refused:
        whole(0, 10, 4)(text)
    assert str(refused.value) == f"{text!r} is not a whole number from 0 to 10, such as 4"


@pytest.mark.parametrize("text", ["", "x", "0.4", "10.1", "nan", "inf", "-inf"])
def test_what_is_no_number_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ArgumentTypeError) as refused:
        real(0.5, 10, "minutes", 2.5)(text)
    assert str(refused.value) == f"{text!r} is not a number of minutes from 0.5 to 10, such as 2.5"


def test_what_is_in_no_table_is_refused_with_the_table() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^'fig' is no fruit: choose from pear, plum$"):
        one_of("fruit", ["pear", "plum"])("fig")


@pytest.mark.parametrize("text", ["1,x", "", "1,,2", "none,1"])
def test_what_is_no_list_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(ArgumentTypeError) as refused:
        several(whole(0, 10), "3,7", "none")(text)
    assert str(refused.value).startswith(f"{text!r} is not a list such as 3,7, nor `none`: '")


def test_what_was_chosen_is_written_as_a_command_line() -> None:
    parser = argparse.ArgumentParser(prog="kvlease fleet plan")
    parser.add_argument("--runs", type=whole(0, 10), default=3)
    parser.add_argument("--policy", action="append")
    parser.add_argument("--takeover", action="store_true")
    parser.set_defaults(run=print)
    add_out(parser, "out")
    given = ["--policy", "stock", "--policy", "a b", "--takeover", "--out", "elsewhere"]
    chosen = parser.parse_args(given)
    assert command_line(parser, chosen) == "kvlease fleet plan --policy stock --policy 'a b' --takeover"
    assert chosen.out == Path("elsewhere")
