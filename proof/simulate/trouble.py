"""The times at which a run's conditions were worse than a lease promises to live through."""

from proof.simulate.clock import BoundedAgenda

NEVER = float("-inf")


class Trouble:
    """The end of the latest trouble of each engine and of each pair; for trouble that goes on, its planned end."""

    def __init__(self, agenda: BoundedAgenda) -> None:
        self._agenda = agenda
        self._engines: dict[str, float] = {}
        self._pairs: dict[tuple[str, str], float] = {}
        self._doubts: dict[tuple[str, str], float] = {}

    def of_engine(self, name: str, until: float) -> None:
        self._engines[name] = max(until, self._engines.get(name, NEVER))

    def between(self, one: str, other: str, until: float) -> None:
        key = _pair(one, other)
        self._pairs[key] = max(until, self._pairs.get(key, NEVER))

    def doubt(self, one: str, other: str) -> None:
        """One of them was told, perhaps falsely, that the other is dead."""
        self._doubts[_pair(one, other)] = self._agenda.now
        self.between(one, other, self._agenda.now)

    def doubted(self, one: str, other: str, within_s: float) -> bool:
        return self._agenda.now - self.doubted_at(one, other) < within_s

    def doubted_at(self, one: str, other: str) -> float:
        """The time at which one of them was last told, perhaps falsely, that the other is dead."""
        return self._doubts.get(_pair(one, other), NEVER)

    def calm_since_at(self, name: str) -> float:
        """The end of this engine's latest trouble."""
        return self._engines.get(name, NEVER)

    def calm_between(self, one: str, other: str) -> float:
        """The end of the latest trouble between these two, whatever troubled each of them."""
        return self._pairs.get(_pair(one, other), NEVER)

    def calm_since(self, one: str, other: str, recovery_s: float, since: float) -> float:
        """The time from which both must have been heard, if something was wanted from `since` on.

        That is `since` where all was well before and ever after; otherwise a recovery after the end of the trouble.
        """
        ended = max(self._engines.get(one, NEVER), self._engines.get(other, NEVER), self.calm_between(one, other))
        return since if ended + recovery_s < since else max(since, ended + recovery_s)


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
