"""A lease agent of the explored world: `AgentCore`, one turn at a time."""

from typing import Any

from kvlease.agent.core import AgentCore
from kvlease.protocol import LeaseCard
from kvlease.testing.clock import ManualClock
from proof.explore.scale import CONFIG, IN_TICKS
from proof.explore.wire import AskedCards, Wire
from proof.promises.structure import check_lessee, check_lessor


class AgentPart:
    """The agent of one engine. An input is a tuple that begins with the name of a method here."""

    def __init__(self, name: str, incarnation: int, now: float) -> None:
        self.clock = ManualClock(now)
        self.wire = Wire(incarnation)
        self.cards = AskedCards()
        self.core = AgentCore(
            CONFIG, name, self._open, self.cards, incarnation=incarnation, timing=IN_TICKS, clock=self.clock
        )
        # Its engine is in a step all the time. What a pause changes is the simulator's concern.
        self.core.progress()

    def _open(self, incarnation: int) -> Wire:
        assert incarnation == self.wire.incarnation
        return self.wire

    # -- inputs --------------------------------------------------------------------------------------------------

    def turn(self, gone: frozenset[int], *said: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take a turn after what the engine has said, which may be nothing."""
        for name, *arguments in said:
            getattr(self.core, name)(*arguments)
        return self._step(gone)

    def hear(self, gone: frozenset[int], sender: int, payload: bytes) -> tuple[Any, ...]:
        """Take a turn in which a message has arrived."""
        self.wire.inbox.append((sender, payload))
        return self._step(gone)

    def answer(self, gone: frozenset[int], endpoint: tuple[str, int], card: bytes | None) -> tuple[Any, ...]:
        """Take a turn in which a card has come, or None where nobody answered."""
        self.cards.answered.append((endpoint, None if card is None else LeaseCard.decode(card)))
        return self._step(gone)

    def suspect(self, gone: frozenset[int], peer: int) -> tuple[Any, ...]:
        """The transport takes `peer` for dead; that shows when something is sent to it, a Probe perhaps."""
        self.wire.suspect(peer)
        return self._step(gone)

    def bye(self, gone: frozenset[int]) -> tuple[Any, ...]:
        """Say Bye to all peers, as the engine shuts down."""
        self.wire.gone = gone
        self.core.say_bye()
        return self._outcome(0, 0)

    def take(self) -> tuple[Any, ...]:
        """Hand the engine what its agent has for it: (news of leases, lost)."""
        return tuple(self.core.take_news()), tuple(self.core.take_lost())

    # -- what comes of it ----------------------------------------------------------------------------------------

    def _step(self, gone: frozenset[int]) -> tuple[Any, ...]:
        self.wire.gone = gone
        before = self.core.snapshot()
        self.core.turn(self.clock.now)
        seen = self.core.snapshot()
        check_lessor(seen.peer.lessor)
        check_lessee(seen.peer.lessee, IN_TICKS)
        return self._outcome(len(before.news), len(before.lost))

    def _outcome(self, news: int, lost: int) -> tuple[Any, ...]:
        """Returns what is new: (messages, cards asked for, news of leases, holders whose lease is lost)."""
        sent, self.wire.outbox = self.wire.outbox, []
        asked, self.cards.asked = self.cards.asked, []
        self.wire.gone = frozenset()
        seen = self.core.snapshot()
        return tuple(sent), tuple(asked), seen.news[news:], seen.lost[lost:]
