"""The counters of a run in progress."""

from array import array
from collections import Counter
from dataclasses import dataclass

from kvlease.fleet.records import FleetLease, FleetRequest
from kvlease.fleet.timeline import Recorder


@dataclass(frozen=True, slots=True)
class Areas:
    """Levels times seconds, summed up to some time."""

    held: float
    stranded: float
    stranded_read: float
    lapsed: float


class FleetBooks:
    """Counts, levels over time, and times to first token. `now` never falls from call to call."""

    def __init__(self, slo_ttft_s: float) -> None:
        self.ends: Counter[str] = Counter()
        """The number of requests by their end: right, wrong, failed, gave_up, aborted."""
        self.lease_ends: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """All other counts, under the names of the fields of `outcome`."""
        self.arrived = 0
        self.held = self.stranded = self.stranded_read = self.lapsed = self.waiting = 0
        """The levels: blocks, and requests without a first token. `lapsed`: blocks that are free, and still readable
        under a lease."""
        self.held_peak = self.stranded_peak = 0
        self.ttft = array("d")
        self.per_token = array("d")
        self.window: tuple[float, Areas, int, int] | None = None
        """The time of the last arrival, and the areas, messages and bytes up to it."""
        self.recorder = Recorder()
        self._slo_ttft_s = slo_ttft_s
        self._held_area = self._stranded_area = self._stranded_read_area = self._waiting_area = 0.0
        self._stranded_read_total = self._lapsed_total = 0.0
        self._moved_at = 0.0
        self._part = self.recorder.grow(0.0)
        self._part_end = self.recorder.part_s

    # -- requests ----------------------------------------------------------------------------------------------------

    def arrive(self, now: float) -> None:
        self._move(now)
        self.arrived += 1
        self.waiting += 1
        self.recorder.counts["arrived"][self._part] += 1

    def begin_answer(self, now: float) -> None:
        """A request gets its first token."""
        self._move(now)
        self.waiting -= 1

    def interrupt_answer(self, now: float) -> None:
        """A request's engine died, so its answer has to begin anew."""
        self._move(now)
        self.waiting += 1

    def end(self, request: FleetRequest, how: str, running: bool, now: float) -> None:
        """A request is over; `running`: it had its first token."""
        self._move(now)
        if not running:
            self.waiting -= 1
        self.ends[how] += 1
        if how == "right":
            self._end_right(request, now)
        elif how == "wrong":
            self.recorder.counts["wrong"][self._part] += 1

    def _end_right(self, request: FleetRequest, now: float) -> None:
        ttft = request.first_token_at - request.arrived_at
        self.ttft.append(ttft)
        if request.output > 1:
            self.per_token.append((now - request.first_token_at) / (request.output - 1))
        self.recorder.counts["right"][self._part] += 1
        if ttft <= self._slo_ttft_s:
            self.counts["good"] += 1
            self.recorder.counts["good"][self._part] += 1

    # -- leases ------------------------------------------------------------------------------------------------------

    def grant(self, lease: FleetLease, now: float) -> None:
        self._move(now)
        self.counts["granted"] += 1
        self._hold(lease, lease.blocks)

    def settle(self, lease: FleetLease, read: bool, now: float) -> None:
        """Nobody wants the lease any more; `read`: it was read for a right answer."""
        if not lease.wanted:
            return
        lease.wanted = False
        if read:
            lease.read = True
            if lease.wasted:
                # Its blocks had been freed, but not yet given to others, so the answer is right.
                lease.wasted = False
                self.waste(-1, -lease.tokens)
        if not lease.freed:
            self._move(now)
            self._strand(lease, lease.blocks)

    def want_again(self, lease: FleetLease, now: float) -> None:
        """A second consumer is going to read a lease that nobody wanted any more."""
        lease.wanted = True
        if not lease.freed:
            self._move(now)
            self._strand(lease, -lease.blocks)

    def _strand(self, lease: FleetLease, blocks: int) -> None:
        self.stranded += blocks
        if lease.read:
            self.stranded_read += blocks
        if self.stranded > self.stranded_peak:
            self.stranded_peak = self.stranded

    def _hold(self, lease: FleetLease, blocks: int) -> None:
        self.held += blocks
        if not lease.wanted:
            self._strand(lease, blocks)
        if self.held > self.held_peak:
            self.held_peak = self.held

    def free(self, lease: FleetLease, cause: str, now: float) -> None:
        """The lease's blocks are free, or gone with their engine."""
        self._move(now)
        self.lease_ends[cause] += 1
        self._hold(lease, -lease.blocks)
        lease.freed = True
        if not lease.read and not lease.wasted:
            lease.wasted = True
            self.waste(1, lease.tokens)

    def lose(self, lease: FleetLease) -> None:
        """The lease cannot be read any more by anybody who knows it, or not safely; its engine lives."""
        self.counts["lost_while_wanted"] += lease.wanted

    def lapse(self, lease: FleetLease, cause: str, now: float) -> None:
        """The lease's blocks are free, and its own until they are reused."""
        self.free(lease, cause, now)
        self.lapsed += lease.blocks

    def reuse(self, lease: FleetLease, now: float) -> None:
        """A lapsed lease's blocks are its own no longer."""
        self._move(now)
        self.lapsed -= lease.blocks

    def revive(self, lease: FleetLease, now: float) -> None:
        """A lapsed lease's blocks are held again."""
        self._move(now)
        self.counts["revived"] += 1
        self.lapsed -= lease.blocks
        lease.freed = False
        self._hold(lease, lease.blocks)

    def waste(self, prefills: int, tokens: int) -> None:
        """Counts prefills, and their tokens, that were of no use."""
        self.counts["wasted"] += prefills
        self.counts["wasted_tokens"] += tokens

    # -- the rest ----------------------------------------------------------------------------------------------------

    def send(self, kind: str, size: int, messages: int, now: float) -> None:
        """Counts `messages` of a kind, `size` bytes in all."""
        self.messages[kind] += messages
        self.bytes[kind] += size
        self._move(now)
        self.recorder.counts["bytes"][self._part] += size

    def fault(self, kind: str, now: float) -> None:
        """Counts a fault; `kind` is `crashes` or `stalls`."""
        self._move(now)
        self.counts[kind] += 1
        self.recorder.counts[kind][self._part] += 1

    def close_window(self, now: float) -> None:
        """Ends the window: the last request has arrived."""
        self.window = (now, self.areas(now), self.messages.total(), self.bytes.total())

    def areas(self, now: float) -> Areas:
        """Returns the areas up to now."""
        self._move(now)
        return Areas(
            sum(self.recorder.areas["held"]) + self._held_area,
            sum(self.recorder.areas["stranded"]) + self._stranded_area,
            self._stranded_read_total + self._stranded_read_area,
            self._lapsed_total,
        )

    def close(self, now: float) -> None:
        """Ends the run: pending figures go into the timeline."""
        self._move(now)
        self._settle()

    def _move(self, now: float) -> None:
        """Adds the levels, which have not changed since the last call, to the areas up to now."""
        dt = now - self._moved_at
        if not dt:
            # Much happens at one moment.
            return
        self._lapsed_total += self.lapsed * dt
        if now < self._part_end:
            self._held_area += self.held * dt
            self._stranded_area += self.stranded * dt
            self._stranded_read_area += self.stranded_read * dt
            self._waiting_area += self.waiting * dt
            self._moved_at = now
            return
        self._settle()
        self._stranded_read_total += self.stranded_read * dt
        self.recorder.spread(self._moved_at, now, (self.held, self.stranded, self.waiting))
        self._part = self.recorder.grow(now)
        self._part_end = (self._part + 1) * self.recorder.part_s
        self._moved_at = now

    def _settle(self) -> None:
        areas = self.recorder.areas
        areas["held"][self._part] += self._held_area
        areas["stranded"][self._part] += self._stranded_area
        areas["waiting"][self._part] += self._waiting_area
        self._stranded_read_total += self._stranded_read_area
        self._held_area = self._stranded_area = self._stranded_read_area = self._waiting_area = 0.0
