"""Questions to the thread that takes an agent's turns, and their answers: how any thread may look at the protocol."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from kvlease.errors import AgentGone
from kvlease.protocol import Peer

T = TypeVar("T")
ANSWERING_S = 0.02
"""The time that a turn gives to questions. Those that are left wait for the next, so renewals wait for one alone."""


class OpenQuestions:
    """The questions that no turn has answered yet. Any thread may ask; one answers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: deque[tuple[Callable[[Peer], Any], Future[Any]]] = deque()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._asked)

    def ask(self, question: Callable[[Peer], T]) -> Future[T]:
        """Returns the future of what `question` will return, or raise; it raises `AgentGone` after `close`."""
        answer: Future[T] = Future()
        self._asked.append((question, answer))
        # Looked at last: whoever closes refuses what is there then.
        if self._closed:
            self._refuse()
        return answer

    def answer(self, peer: Peer) -> None:
        """Answers them in their order, as many as there is time for."""
        until = self._clock() + ANSWERING_S
        # Only those that are there now: an answer may be followed by another question.
        for _ in range(len(self._asked)):
            question, answer = self._asked.popleft()
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(question(peer))
            except Exception as e:  # noqa: BLE001 - it is raised again where the question was asked
                answer.set_exception(e)
            if self._clock() >= until:
                return

    def close(self) -> None:
        """There are no more turns: whoever waits for an answer, or asks from now on, is refused."""
        self._closed = True
        self._refuse()

    def _refuse(self) -> None:
        # Any number of threads may be here at once.
        while True:
            try:
                _, answer = self._asked.popleft()
            except IndexError:
                return
            if answer.set_running_or_notify_cancel():
                answer.set_exception(AgentGone("the lease agent of this engine has ended, or is about to"))
