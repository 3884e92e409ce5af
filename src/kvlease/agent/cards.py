"""The sources from which a lease agent gets other engines' lease cards."""

from typing import Protocol

from kvlease.protocol import Endpoint, LeaseCard


class CardSource(Protocol):
    """Fetches cards without making the agent wait: a question is answered at a later call.

    Implementations: `kvlease.agent.fetching.ThreadedCards`, over a function that fetches one card; `MemoryCards`.
    """

    def ask(self, endpoint: Endpoint) -> None:
        """Begin to fetch the card served at `endpoint`. Every question is answered; several may share an answer."""
        ...

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        """Returns the answers that have come since the last call; None where nobody answered, or not with a card."""
        ...

    def close(self) -> None:
        """Stop fetching; what is still under way is given up."""
        ...


class MemoryCards:
    """Cards kept in a dict, for our tests and for users' tests; answered at the next call of `answers`."""

    def __init__(self, served: dict[Endpoint, LeaseCard]) -> None:
        self.served = served
        self._asked: list[Endpoint] = []

    def ask(self, endpoint: Endpoint) -> None:
        self._asked.append(endpoint)

    def answers(self) -> list[tuple[Endpoint, LeaseCard | None]]:
        asked, self._asked = self._asked, []
        return [(endpoint, self.served.get(endpoint)) for endpoint in asked]

    def close(self) -> None:
        self._asked.clear()
