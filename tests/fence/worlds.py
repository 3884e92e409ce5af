"""The two sides of a fence, for tests of the consumer's."""

from kvlease.fence import FenceTable, FenceVerifier, FenceWord, RegisteredWords
from kvlease.testing.data_agent import FAKE_ERRORS, FakeDataAgent

TOKEN = 0xFEDC_BA98_7654_3210


class Clock:
    """A clock in seconds, each reading of which takes `tick_s`."""

    def __init__(self) -> None:
        self.now, self.tick_s, self.readings = 0.0, 0.0, 0

    def __call__(self) -> float:
        self.now += self.tick_s
        self.readings += 1
        return self.now


class World:
    """A producer's table, a consumer's verifier with some landing words, and the agent between them."""

    def __init__(self, capacity: int = 2, instant: bool = False) -> None:
        """`instant`: a read ends as it is posted."""
        self.agent = FakeDataAgent(instant)
        self.table = FenceTable(RegisteredWords(self.agent, 16))
        self.clock = Clock()
        self.verifier = FenceVerifier(
            self.agent, RegisteredWords(self.agent, capacity), errors=FAKE_ERRORS, lost_after_s=10.0, clock=self.clock
        )

    def word(self, slot: int, token: int = TOKEN) -> FenceWord:
        return FenceWord("P0", self.table.address.word(slot), token)

    def armed(self, slot: int, token: int = TOKEN) -> FenceWord:
        self.table.arm(slot, token)
        return self.word(slot, token)
