"""The parts that commands share which play on real engines."""

import argparse
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kvlease.console.arguments import add_out
from kvlease.console.origin import ENGINE, commit, versions

if TYPE_CHECKING:
    from kvlease.console.progress import Story

PARTS = ("rich", "matplotlib", "httpx", "prometheus_client", "psutil", "vllm", "nixl", "torch", "transformers")
LEFT = "the engines have been ended, nothing is left running"


def add_model_and_out(parser: argparse.ArgumentParser) -> None:
    """Adds `--model` and `--out`."""
    parser.add_argument(
        "--model",
        type=_model_directory,
        metavar="DIR",
        help="serve the model in this directory instead of a tiny one made for it",
    )
    add_out(parser, "out")


def _model_directory(text: str) -> Path:
    directory = Path(text)
    if not (directory / "config.json").is_file():
        raise ArgumentTypeError(f"{text!r} holds no model: there is no config.json in it")
    return directory.resolve()


def begin(what: str, model: Path | None) -> "tuple[Story, Path]":
    """Says what is played and with what. Returns the story that tells of it, and the model, a tiny one unless given."""
    from kvlease.console.progress import Story, open_console
    from kvlease.up.model import build_model

    story = Story(open_console())
    used = ", ".join(f"{name} {number}" for name, number in versions(ENGINE).items())
    story.say(f"{what} (commit {commit()}; {used})")
    with story.busy("the model is made ready"):
        return story, model or build_model("llama")


@contextmanager
def engines_answer(logs: Path) -> Iterator[None]:
    """Raises EngineError, which says where to look, when an engine stops answering."""
    import httpx

    from proof.realengines.engine import EngineError

    try:
        yield
    except httpx.TransportError as error:
        raise EngineError(f"an engine stopped answering ({error!r}); see {logs}") from error
