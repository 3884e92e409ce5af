"""A state that is being changed by an action: its parts can be told things, and what they say is passed on."""

from collections.abc import Callable, Sequence
from typing import Any

from kvlease.protocol import LeaseCard, WorkerFence
from kvlease.protocol.effects import Lapse, LeaseNews
from kvlease.protocol.messages import VERSION
from proof.explore.checks import check_gone, check_revival
from proof.explore.consumer import ENDPOINT
from proof.explore.parts import NOBODY, Parts
from proof.explore.scale import START_S, TICK_S
from proof.explore.state import Item, Numbering, Outside, State
from proof.explore.views import Views

PRODUCER = -1
"""The producer, where consumers are named by their numbers."""
PRODUCERS = (0x101, 0x102, 0x103, 0x104)
"""Incarnations of the producer, one after the other."""
_NOBODY: frozenset[int] = frozenset()
CONSUMERS = (0xD1, 0xD2, 0xD4)


class Tables:
    """The tables of what the numbers in a `State` stand for, but for parts."""

    def __init__(self) -> None:
        self.outside = Numbering()
        self.flying = Numbering()


class DraftState:
    """A state that can be changed: it is made from a `State`, and makes one again."""

    def __init__(self, state: State, parts: Parts, views: Views, tables: Tables) -> None:
        self._parts, self._views, self._tables = parts, views, tables
        self.tick = state.tick
        self.outside: Outside = tables.outside[state.outside]
        self.flying: list[Item] = list(tables.flying[state.flying])
        self.books, self.agent, self.engine = state.books, state.agent, state.engine
        self.consumers = list(state.consumers)
        self.lost: list[tuple[int, str]] = []
        """(consumer, holder) of losses that were told in this action."""
        self.events: list[str] = []
        """The events of this action that worlds are to show."""

    def state(self) -> State:
        return State(
            self.tick,
            self._tables.outside.number(self.outside),
            self._tables.flying.number(tuple(sorted(self.flying))),
            self.books,
            self.agent,
            self.engine,
            tuple(self.consumers),
        )

    @property
    def now(self) -> float:
        return START_S + self.tick * TICK_S

    # -- who there is --------------------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """The producer's incarnation."""
        return PRODUCERS[self.outside.restarts]

    @property
    def living(self) -> Sequence[int]:
        everybody = range(len(self.consumers) // 2)
        return [d for d in everybody if d not in self.outside.dead] if self.outside.dead else everybody

    def runs(self, who: int) -> bool:
        return who not in self.outside.frozen and who not in self.outside.dead

    def agent_of(self, who: int) -> int:
        return self.agent if who == PRODUCER else self.consumers[2 * who]

    def gone(self, who: int) -> frozenset[int]:
        """Incarnations whose death shows to `who`."""
        if who == PRODUCER:
            if not self.outside.dead:
                return _NOBODY
            dead = (d for d in self.outside.dead if d not in self.outside.unseen)
            return frozenset(CONSUMERS[d] for d in dead)
        return frozenset(PRODUCERS[: self.outside.restarts]) if self.outside.restarts else _NOBODY

    def distinct(self) -> list[Item]:
        """The items that are on their way; of equal ones, one."""
        return self.flying if len(self.flying) < 2 else sorted(set(self.flying))

    def card(self, workers: int, slots: int) -> bytes:
        """The card that the producer's side channel serves, encoded."""
        fences = [WorkerFence(0, worker, 0, slots) for worker in range(workers)]
        return LeaseCard([VERSION], self.incarnation, self.incarnation.to_bytes(8, "little"), fences).encode()

    def change(self, **fields: Any) -> None:
        self.outside = self.outside._replace(**fields)

    # -- telling parts -------------------------------------------------------------------------------------------

    def tell_agent(self, who: int, name: str, *arguments: Any) -> None:
        """Let an agent take a turn; what it sends and asks for is on its way then."""
        if self.agent_of(who) == NOBODY:
            return
        number, (sent, asked, news, lost) = self._parts.run(
            self.agent_of(who), self.now, (name, self.gone(who), *arguments)
        )
        own = self.incarnation if who == PRODUCER else CONSUMERS[who]
        for peer, payload in sent:
            if self._lives(peer):
                self.flying.append(Item("message", peer, own, payload))
        for endpoint in asked:
            assert endpoint == ENDPOINT
            self.flying.append(Item("card", who, 0, b""))
        if who == PRODUCER:
            self.agent = number
            self._note_news(arguments if name == "turn" else (), news)
            check_gone(sent, self._views.settled(self.books).ended)
        else:
            self.consumers[2 * who] = number
            sessions = self._views.stated(number)
            self.books, _ = self._parts.run(self.books, 0.0, ("look", CONSUMERS[who], sessions))
            self.lost += [(who, holder) for holder in lost]

    def _note_news(self, said: tuple[Any, ...], news: tuple[LeaseNews, ...]) -> None:
        """Enter what the producer's agent has heard from its engine, and what it has for it."""
        facts: list[tuple[Any, ...]] = [("has_ended", token) for event, token in said if event == "cleared"]
        causes = self._views.settled(self.books).causes
        for effect in news:
            if isinstance(effect, Lapse):
                self.events.append(f"lapsed: {effect.cause}")
                facts.append(("lapsed", effect.token, effect.cause))
            else:
                check_revival(effect.token, causes)
                self.events.append("revived")
        self.note(facts)

    def take(self, who: int) -> tuple[Any, ...]:
        """Take what the agent has for its engine: (news of leases, lost)."""
        number, taken = self._parts.run(self.agent_of(who), self.now, ("take",))
        if who == PRODUCER:
            self.agent = number
        else:
            self.consumers[2 * who] = number
        return tuple(taken)

    def tell_producer(self, name: str, *arguments: Any) -> Any:
        """Give the producer's engine an input; returns what it offers."""
        self.engine, (facts, said, offer, events) = self._parts.run(self.engine, self.now, (name, *arguments))
        self.events += events
        self.note(facts)
        if said:
            self.tell_agent(PRODUCER, "turn", *said)
        return offer

    def tell_consumer(self, d: int, name: str, *arguments: Any) -> None:
        """Give a consumer's engine an input."""
        asking = self._views.asking(self.consumers[2 * d + 1])
        self.consumers[2 * d + 1], (facts, said, verdicts) = self._parts.run(
            self.consumers[2 * d + 1], self.now, (name, *arguments)
        )
        new = self._views.asking(self.consumers[2 * d + 1]) - asking + (name == "card")
        self.flying += [Item("fences", d, 0, b"")] * new
        causes = self._views.settled(self.books).causes
        self.events += [
            f"a {'late ' if token in causes else ''}read {verdict.name.lower()}" for token, verdict in verdicts
        ]
        self.note(facts)
        if said:
            self.tell_agent(d, "turn", *said)

    def note(self, facts: Any) -> None:
        facts = tuple(facts)
        if facts:
            self.books, _ = self._parts.run(self.books, 0.0, ("note", facts))

    def drop_letters(self, matches: Callable[[Item], bool]) -> None:
        self.flying = [item for item in self.flying if not matches(item)]

    def _lives(self, peer: int) -> bool:
        return peer == self.incarnation or any(peer == CONSUMERS[d] for d in self.living)


def receiver(item: Item) -> int:
    """The receiver of an item: `PRODUCER`, or a consumer's number."""
    if item.kind != "message":
        return item.to
    return CONSUMERS.index(item.to) if item.to in CONSUMERS else PRODUCER
