"""The commands with their output, shortened where it is long, and a table of how long each took."""

from collections.abc import Sequence

from kvlease.console.numbers import seconds
from kvlease.console.tables import Cell, Table
from proof.questions.asking import LIMIT_S, QuestionAnswered

MOST_LINES = 40


def shown(answered: QuestionAnswered) -> str:
    """Returns a question as a comment, its command, and what it printed."""
    question = answered.question
    return f"# {question.asks}\n$ {question.command}\n{shortened(answered.output)}\n({seconds(answered.took_s)})\n"


def shortened(output: str) -> str:
    """Returns the output; of a long one the beginning, and how much is left out."""
    lines = output.splitlines()
    if len(lines) <= MOST_LINES:
        return output
    return "\n".join([*lines[:MOST_LINES], f"[... {len(lines) - MOST_LINES} more lines]"])


def table(answers: Sequence[QuestionAnswered]) -> Table:
    """Returns a line for each question. One that was not told what it asked has failed, however fast that was."""
    return Table(
        ("question", "command", "took", f"under {LIMIT_S:g} s"),
        [(each.question.asks, each.question.command, seconds(each.took_s), _verdict(each)) for each in answers],
        title="One question, one command",
        texts=2,
    )


def _verdict(answered: QuestionAnswered) -> Cell:
    if not answered.told:
        return Cell("no answer", "bad")
    return Cell("yes", "good") if answered.held else Cell("no", "bad")
