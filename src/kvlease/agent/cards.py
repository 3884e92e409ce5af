"""The sources from which a lease agent gets other engines' lease cards."""

from typing import Protocol

from kvlease.protocol import Endpoint, LeaseCard


class CardSource(Protocol):
    """Fetches cards without making the agent wait: a question is answered at a later call.

    Implementations: `kvlease.agent.fetching.ThreadedCards`, over a function that fetches one card;
    `kvlease.testing.cards.MemoryCards`.
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
