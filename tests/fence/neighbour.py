"""A worker in a process of its own, whose fence words the test's process maps."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from kvlease.fence import FenceTable, RegisteredWords, SharedMemory, SharedPlace
from kvlease.testing.data_agent import FakeDataAgent

ANSWER_S = 60.0


class Neighbour:
    """The test's end of the other process. Attributes: `place`: that of its words."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        place = self._answer()
        assert isinstance(place, SharedPlace)
        self.place = place

    def ask(self, *command: object) -> object:
        self._pipe.send(command)
        return self._answer()

    def _answer(self) -> object:
        assert self._pipe.poll(ANSWER_S), "the other process does not answer"
        return self._pipe.recv()


@contextmanager
def neighbour(count: int) -> Iterator[Neighbour]:
    """Starts a process that has `count` words, and ends it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_live, args=(there, count))
    process.start()
    there.close()
    try:
        yield Neighbour(here)
    finally:
        # It ends when nobody is at the other end of its pipe.
        here.close()
        process.join(ANSWER_S)
        assert process.exitcode == 0


def _live(pipe: Connection, count: int) -> None:
    memory = SharedMemory(count)
    table = FenceTable(RegisteredWords(FakeDataAgent(), count, memory=memory.map))
    pipe.send(memory.place)
    while True:
        try:
            what, *given = pipe.recv()
        except EOFError:
            return
        if what == "word":
            pipe.send(table.word(*given))
            continue
        if what == "arm":
            table.arm(*given)
        else:
            memory.close()
        pipe.send("done")
