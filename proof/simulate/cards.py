"""Lease cards in a run: agents and workers ask for them over the network, and are answered later, or never."""

from collections.abc import Callable

from kvlease.protocol import Endpoint, LeaseCard
from kvlease.simulation.chance import Chance
from proof.simulate.clock import BoundedAgenda

FETCH_TIMEOUT_S = 2.0
ROUND_TRIP_S = 0.005

Serve = Callable[[str, Endpoint], LeaseCard | None]
"""Maps (who asks, where) to the card that is served there now; None where nobody answers."""


class CardDesk:
    """The one place where everybody asks for cards."""

    def __init__(self, agenda: BoundedAgenda, chance: Chance, serve: Serve) -> None:
        self._agenda = agenda
        self._chance = chance
        self._serve = serve

    def ask(self, engine: str, endpoint: Endpoint, answer: Callable[[LeaseCard | None], None]) -> None:
        """Ask for a card; `answer` is called later, with the card as decoded from its bytes, or with None."""
        trip_s = ROUND_TRIP_S * self._chance.of(f"cards for {engine}").random()
        self._agenda.after(trip_s, lambda: self._reply(engine, endpoint, answer))

    def _reply(self, engine: str, endpoint: Endpoint, answer: Callable[[LeaseCard | None], None]) -> None:
        card = self._serve(engine, endpoint)
        if card is None:
            self._agenda.after(FETCH_TIMEOUT_S, lambda: answer(None))
        else:
            read = LeaseCard.decode(card.encode())
            self._agenda.after(ROUND_TRIP_S * self._chance.of(f"cards for {engine}").random(), lambda: answer(read))


class SimCards:
    """One agent's `kvlease.agent.cards.CardSource`."""

    def __init__(self, desk: CardDesk, engine: str) -> None:
        self._desk = desk
        self._engine = engine
        self._answers: list[tuple[Endpoint, LeaseCard | None]] = []

    def ask(self, endpoint: Endpoint) -> None:
        """Begin to ask for the card at `endpoint` (`CardSource.ask`)."""
        self._desk.ask(self._engine, endpoint, lambda card: self._answers.append((endpoint, card)))

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        """The answers since the last call, None where nobody answered (`CardSource.answers`)."""
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Forget the answers that nobody has taken (`CardSource.close`)."""
        self._answers.clear()
