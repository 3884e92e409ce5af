"""The wait for P's blocks, with a P that reports given numbers of held blocks."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from proof.chaos import play
from proof.chaos.scene import Scene


class TalkingScene:
    """A scene that reports these numbers of held blocks one after the other, and the last one for ever."""

    def __init__(self, *held: int | None) -> None:
        self._held: Iterator[int | None] = iter(held)
        self._last: int | None = None

    async def held_blocks(self) -> int | None:
        self._last = next(self._held, self._last)
        return self._last


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "WAIT_S", 0.2)
    monkeypatch.setattr(play, "_LOOK_EVERY_S", 0.01)


def wait_free(*held: int | None, bound_s: float) -> tuple[float | None, int]:
    return asyncio.run(play.wait_free(cast(Scene, TalkingScene(*held)), bound_s))


def test_blocks_that_come_free_within_the_bound_are_not_stranded() -> None:
    free_s, stranded = wait_free(5, 5, None, 2, 0, bound_s=10.0)
    assert free_s is not None
    assert free_s < 10
    assert stranded == 0


def test_blocks_that_come_free_too_late_were_stranded() -> None:
    free_s, stranded = wait_free(*[7] * 10, 0, bound_s=0.03)
    assert free_s is not None
    assert free_s > 0.03
    assert stranded == 7


def test_blocks_that_never_come_free_are_not_waited_for_for_ever() -> None:
    assert wait_free(3, bound_s=0.03) == (None, 3)
