"""The timeline of a run, in as few parts as a plot can show, however long the run."""

from kvlease.fleet.outcome import Timeline

MOST_PARTS = 1200
FIRST_PART_S = 1.0
COUNTS = ("arrived", "good", "right", "wrong", "bytes", "crashes", "stalls")
LEVELS = ("held", "stranded", "waiting")


class Recorder:
    """Counts per part of time, and levels as averages. When there are too many parts, each two become one."""

    def __init__(self) -> None:
        self.part_s = FIRST_PART_S
        self.counts: dict[str, list[int]] = {name: [] for name in COUNTS}
        self.areas: dict[str, list[float]] = {name: [] for name in LEVELS}
        """The levels times seconds, of each part."""
        self._parts = 0

    def grow(self, time: float) -> int:
        """Returns the index of the part that `time` is in, which is made if it does not exist."""
        index = int(time / self.part_s)
        while index >= MOST_PARTS:
            self._halve()
            index = int(time / self.part_s)
        if index >= self._parts:
            more = index + 1 - self._parts
            for counts in self.counts.values():
                counts.extend([0] * more)
            for areas in self.areas.values():
                areas.extend([0.0] * more)
            self._parts = index + 1
        return index

    def _halve(self) -> None:
        self.part_s *= 2
        self.counts = {
            name: [sum(each[i : i + 2]) for i in range(0, len(each), 2)] for name, each in self.counts.items()
        }
        self.areas = {name: [sum(each[i : i + 2]) for i in range(0, len(each), 2)] for name, each in self.areas.items()}
        self._parts = (self._parts + 1) // 2

    def spread(self, began: float, until: float, levels: tuple[float, ...]) -> None:
        """Adds levels, in the order of `LEVELS`, that were constant from `began` to `until`."""
        while began < until:
            index = self.grow(began)
            end = min(until, (index + 1) * self.part_s)
            if end <= began:
                # By rounding, the end of this part is not after `began`.
                index, end = self.grow(began + self.part_s / 2), min(until, began + self.part_s / 2)
            for name, level in zip(LEVELS, levels, strict=True):
                self.areas[name][index] += level * (end - began)
            began = end

    def result(self) -> Timeline:
        """Returns the timeline as plain data."""
        counts = {name: tuple(each) for name, each in self.counts.items()}
        held, stranded, waiting = (tuple(area / self.part_s for area in self.areas[name]) for name in LEVELS)
        return Timeline(part_s=self.part_s, held_blocks=held, stranded_blocks=stranded, waiting=waiting, **counts)
