"""Time in a run: the agenda of what is to happen when, and the clocks of engines, which do not agree with it."""

from collections.abc import Callable

from kvlease.simulation.agenda import Agenda
from proof.promises.safety import Violation


class BoundedAgenda:
    """An agenda of calls without arguments, and a bound on how many of them a run may come to."""

    def __init__(self, most_events: int) -> None:
        """A run that comes to more events than `most_events` does not come to rest (L3)."""
        self._agenda = Agenda()
        self._most_events = most_events

    @property
    def now(self) -> float:
        """The simulated time, in seconds since the start of the run."""
        return self._agenda.now

    @property
    def events(self) -> int:
        """The number of calls that have begun."""
        return self._agenda.events

    def at(self, time: float, happen: Callable[[], None]) -> None:
        """Let `happen` be called at `time`, or now where that is past."""
        self._agenda.at(time, self._happen, happen)

    def after(self, delay_s: float, happen: Callable[[], None]) -> None:
        """Let `happen` be called `delay_s` seconds from now."""
        self.at(self.now + delay_s, happen)

    def _happen(self, happen: Callable[[], None]) -> None:
        if self.events > self._most_events:
            raise Violation("L3", f"{self.events} events, and no rest")
        happen()

    def run_until(self, end: float, done: Callable[[], bool] = lambda: False) -> None:
        """Make the calls that are due up to `end`, or until `done` is true, which is asked after each call."""
        self._agenda.run_until(end, done)


class DriftingClock:
    """A monotonic clock of one engine: it begins at any value, and may run fast or slow for a while."""

    def __init__(self, agenda: BoundedAgenda, began_at: float, rate: float = 1.0) -> None:
        self._agenda = agenda
        self._local = began_at
        self._true = agenda.now
        self._rate = rate

    def __call__(self) -> float:
        """The clock's reading, in seconds."""
        return self._local + (self._agenda.now - self._true) * self._rate

    def run_at(self, rate: float) -> None:
        """Let the clock run at `rate` from now on; 1 is the true rate."""
        self._local, self._true, self._rate = self(), self._agenda.now, rate
