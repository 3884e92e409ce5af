"""A question of an operator, the one command that answers it, and the answer."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 10.0
"""The time within which an operator has the answer."""
_PATIENCE_S = 60.0
_COLUMNS = "120"


@dataclass(frozen=True)
class OperatorQuestion:
    """A question, and the command as an operator types it."""

    asks: str
    command: str
    expects: str
    """A regular expression for what the output has to say to be an answer."""


@dataclass(frozen=True)
class QuestionAnswered:
    """The output of a question's command, and how long it took."""

    question: OperatorQuestion
    output: str
    took_s: float

    @property
    def told(self) -> bool:
        """True where the output says what was asked."""
        return re.search(self.question.expects, self.output, re.DOTALL) is not None

    @property
    def held(self) -> bool:
        """True where it says so in time."""
        return self.told and self.took_s < LIMIT_S


def ask(question: OperatorQuestion) -> QuestionAnswered:
    """Types the command into a shell, in which this process's `kvlease` is found, and waits for its end."""
    began = time.monotonic()
    try:
        ran = subprocess.run(
            ["/bin/sh", "-c", question.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(os.environ),
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return QuestionAnswered(question, _text(late.output), time.monotonic() - began)
    return QuestionAnswered(question, _text(ran.stdout), time.monotonic() - began)


def environment(caller: Mapping[str, str]) -> dict[str, str]:
    """Returns the shell's environment: the caller's, with this Python's programs first, and a wide terminal."""
    programs = str(Path(sys.executable).parent)
    return {**caller, "PATH": f"{programs}{os.pathsep}{caller.get('PATH', os.defpath)}", "COLUMNS": _COLUMNS}


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace").rstrip()
