"""`python -m proof questions`: an operator's questions, asked of real engines, and how long each answer took."""

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from kvlease.console.commands import Command
from kvlease.console.exits import Exit, described
from proof.cli.real_engines import LEFT, PARTS, add_model_and_out, begin, engines_answer

if TYPE_CHECKING:
    from proof.questions.asking import QuestionAnswered

_DESCRIPTION = """\
Starts a prefill and a decode engine with kvlease's routes, listener and events, and a short lease;
has leases wait on a slow decode engine, has it stand still until its reads come late, drains the
prefill engine, and kills the decode engine. Asks each question of an operator as it comes up, with
one shell command; prints the command, its output and how long it took, and ends with a table. An
answer counts where it says what was asked, within 10 s. Takes about two minutes on two cores."""


def add_questions(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = Command(
        "questions",
        _ask,
        summary="an operator's questions, each answered by one command under 10 s",
        description=_DESCRIPTION,
        exits=described("every question was answered in time", "one was not", "it could not be played"),
        examples=("python -m proof questions",),
        parts=PARTS,
        install="make demo",
        errors=Exit.NOT_DONE,
        left=LEFT,
    ).add_to(commands)
    add_model_and_out(parser)


def _ask(chosen: argparse.Namespace) -> Exit:
    # Imported late, so that --help and bad arguments answer at once.
    from kvlease.console.progress import show
    from proof.questions.report import shown, table
    from proof.questions.scene import play

    story, model = begin("python -m proof questions", chosen.model)
    folder = chosen.out / "questions"

    async def run() -> "list[QuestionAnswered]":
        answers = []
        async for each in play(model, folder, story):
            print(shown(each), flush=True)
            answers.append(each)
        return answers

    with engines_answer(folder):
        answers = asyncio.run(run())
    show(story.console, table(answers))
    return Exit.OK if all(each.held for each in answers) else Exit.FOUND
