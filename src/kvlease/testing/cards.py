"""Lease cards without a network."""

from kvlease.protocol import Endpoint, LeaseCard


class MemoryCards:
    """A `CardSource` over a dict; questions are answered at the next call of `answers`."""

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
