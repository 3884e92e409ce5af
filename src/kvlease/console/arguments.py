"""The types of arguments: each refuses a bad value with that value, what is allowed, and an example."""

import argparse
import math
import os
import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

MANY = 1_000_000_000
"""The most runs, requests or blocks: more than anybody waits for."""
SEEDS = 1 << 32


def whole(low: int, high: int, example: int | None = None) -> Callable[[str], int]:
    """Returns the type of a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        # Underscores and digits of other scripts, which `int` takes, are refused, and more digits than it takes.
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}{_such_as(example)}")
        return int(text)

    return parse


def real(low: float, high: float, unit: str = "", example: float | None = None) -> Callable[[str], float]:
    """Returns the type of a number from `low` to `high`; `unit` is what it counts, such as "seconds"."""
    what = f"a number of {unit}" if unit else "a number"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ArgumentTypeError(f"{text!r} is not {what} from {low:g} to {high:g}{_such_as(example)}")
        return value

    return parse


def engine_url(text: str) -> str:
    """Returns the URL of an engine, from an argument with or without its scheme, and without the page of metrics or
    the `/v1` that OpenAI's clients have at the end."""
    whole = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not parts.query
    except ValueError:
        good = None
    if not good:
        raise ArgumentTypeError(f"{text!r} is no URL of an engine, such as http://prefill-0:8000")
    return whole.rstrip("/").removesuffix("/metrics").removesuffix("/v1").rstrip("/")


def one_of(what: str, names: Collection[str]) -> Callable[[str], str]:
    """Returns the type of one of these names; `what` is what they are, such as "world"."""

    def parse(text: str) -> str:
        if text not in names:
            raise ArgumentTypeError(f"{text!r} is no {what}: choose from {', '.join(names)}")
        return text

    return parse


def several(of: Callable[[str], T], example: str, nothing: str = "") -> Callable[[str], tuple[T, ...]]:
    """Returns the type of a list with commas; `nothing` is the text for an empty list, if that is allowed."""

    def parse(text: str) -> tuple[T, ...]:
        if nothing and text == nothing:
            return ()
        try:
            return tuple(of(part.strip()) for part in text.split(","))
        except ArgumentTypeError as error:
            or_none = f", nor `{nothing}`" if nothing else ""
            raise ArgumentTypeError(f"{text!r} is not a list such as {example}{or_none}: {error}") from None

    return parse


def _such_as(example: float | None) -> str:
    return "" if example is None else f", such as {example:g}"


# -- arguments that several commands have --------------------------------------------------------------------------


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Adds `--jobs`: the number of processes."""
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--jobs", type=whole(1, 1024), default=cores, metavar="J", help=f"processes (one a core: {cores})"
    )


def add_out(parser: argparse.ArgumentParser, directory: str) -> None:
    """Adds `--out`: the directory for the results, this one unless told otherwise."""
    parser.add_argument(
        "--out", type=Path, default=Path(directory), metavar="DIR", help="where the results go (%(default)s)"
    )


# -- arguments as text ---------------------------------------------------------------------------------------------

_ELSEWHERE = ("jobs", "out")
"""The options that change no figure."""


def command_line(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> str:
    """Returns the command line that asks for the same, with all options that were not left at their defaults."""
    words = parser.prog.split()
    for name, value in vars(chosen).items():
        if name in _ELSEWHERE or callable(value) or value == parser.get_default(name):
            continue
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
            continue
        for each in value if isinstance(value, list) else [value]:
            words += [flag, _written(each)]
    return shlex.join(words)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        name, setting = value
        return f"{name}={_written(setting)}"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
