"""An operator's questions to real engines in trouble, each answered by one command within 10 s."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from kvlease.console.progress import Story
from proof.questions.asking import QuestionAnswered
from proof.questions.scene import play

pytestmark = [pytest.mark.engine, pytest.mark.wide, pytest.mark.timeout(180)]

HAND_OVERS = 5


def test_each_question_is_answered_by_one_command_in_time(model: Path, logs: Path) -> None:
    async def asked() -> list[QuestionAnswered]:
        return [each async for each in play(model, logs, Story(Console(file=io.StringIO())), HAND_OVERS)]

    answers = asyncio.run(asked())
    assert len(answers) == 8
    assert [(each.question.asks, each.took_s, each.output) for each in answers if not each.held] == []
