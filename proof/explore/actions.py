"""The actions that can happen next in a state: an exhaustive list, always in the same order.

Reductions, and why they lose nothing:

- What an engine tells its agent is heard in a turn at once. The agent's thread might be later within the beat; but it
  takes what the engine says before what the network brings, so this differs from being later only in when its messages
  leave, and they may take until the end of the beat anyway.
- A turn in which nothing is due is taken as soon as the beat begins (`World._pass`). It sends nothing and changes
  nothing but the time that was last seen, as would any turn later in the beat.
- Consumers are alike but for their names. So nothing is done to the second before something was done to the first.
- Unless the bounds ask for `fine` steps, some actions follow at once on what makes them possible (`eager`).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from kvlease.engine.worker import Part
from proof.explore.cell import Cells
from proof.explore.lenses import Lenses
from proof.explore.moment import CONSUMERS, PRODUCER, PRODUCERS, Moment, receiver
from proof.explore.scale import Bounds
from proof.promises.safety import Violation

Action = tuple[Any, ...]
FAULTS = (
    "lose", "double", "hold", "hand_again", "mix_up", "abort", "abort_prefill", "crash", "vanish", "shut_down",
    "producer_suspects", "consumer_suspects", "restart", "freeze",
)  # fmt: skip
"""Names of the actions that cost a fault."""


class Actions:
    """Lists the actions that can happen in a state."""

    def __init__(self, cells: Cells, lenses: Lenses, bounds: Bounds) -> None:
        self._cells, self._lenses, self._bounds = cells, lenses, bounds
        self._kinds = frozenset(bounds.kinds or FAULTS)
        self._due: dict[tuple[int, int, frozenset[int]], bool] = {}

    def possible(self, moment: Moment) -> list[Action]:
        """All actions that can happen now."""
        found = [*self._usual(moment)]
        if moment.outside.faults:
            found += [action for action in self._faults(moment) if action[0] in self._kinds]
        return found

    def eager(self, moment: Moment) -> Action | None:
        """The action that happens at once, when the steps are not `fine`: at the moment that is worst for the promises.

        - A worker arms, loads and writes as soon as the step is scheduled. Nobody knows the new token before the step
          is over, so when its word was armed cannot be told from outside; and who still reads the overwritten blocks is
          harmed the more the sooner they are written. What nothing waits for is cleared at once, too.
        - All blocks of a lease are read at one moment, the last one. What is freed or overwritten stays so, since no
          token is used twice: whatever a read at an earlier moment would find wrong, it finds as well.
        - The words are read right after the blocks. A word that is cleared stays so: whatever a later read would let
          pass, the earlier one does as well; and a verdict against the lease comes of its end before the blocks are
          read, too.
        """
        if moment.runs(PRODUCER):
            step = self._lenses.stepping(moment.engine)
            if step.unwritten:
                return ("write", step.unwritten[0])
            for worker, part in enumerate(step.next):
                if part is not None and (part is not Part.CLEAR or not step.clears):
                    return ("part", worker)
        for d in moment.living:
            at_once = self._lenses.at_once(moment.consumers[2 * d + 1])
            if at_once is not None:
                return (at_once[0], d, *at_once[1:])
        return None

    def is_due(self, moment: Moment, who: int) -> bool:
        """Tells whether a turn of this agent does more than look at the clock."""
        key = (moment.agent_of(who), moment.beat, moment.gone(who))
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = self._find_due(*key, moment.now)
        return due

    def _find_due(self, agent: int, beat: int, gone: frozenset[int], now: float) -> bool:
        del beat
        try:
            after, outcome = self._cells.run(agent, now, ("turn", gone))
        except Violation:
            return True
        return any(outcome) or not self._cells.is_quiet(agent, after)

    # -- the usual -----------------------------------------------------------------------------------------------

    def _usual(self, moment: Moment) -> Iterator[Action]:
        urgent = False
        for item in moment.distinct():
            if moment.runs(receiver(item)):
                urgent = urgent or not item.held
                yield ("deliver", item)
        due = False
        for who in (PRODUCER, *moment.living):
            if moment.runs(who) and self.is_due(moment, who):
                due = True
                yield ("turn", who)
        if moment.runs(PRODUCER):
            yield from self._producer(moment)
        for d in _told_apart(moment):
            if moment.runs(d):
                yield from self._consumer(moment, d)
        for who in moment.outside.frozen:
            yield ("thaw", who)
        if moment.beat < self._bounds.beats and not due and not urgent:
            yield ("pass",)

    def _producer(self, moment: Moment) -> Iterator[Action]:
        step = self._lenses.stepping(moment.engine)
        if not step.next:
            if step.ordered or self._lenses.revoked(moment.agent):
                yield ("schedule", False)
            asked = moment.outside.asked
            if asked < len(self._bounds.sizes) and self._bounds.sizes[asked] <= step.free:
                yield ("schedule", True)
        elif step.is_through:
            yield ("finish",)
        else:
            for worker, part in enumerate(step.next):
                if part is not None:
                    yield ("part", worker)
            for worker in step.unwritten:
                yield ("write", worker)

    def _consumer(self, moment: Moment, d: int) -> Iterator[Action]:
        for number, offer in enumerate(moment.outside.offers):
            if offer is not None and not offer.handed:
                yield ("hand", number, d)
        engine = moment.consumers[2 * d + 1]
        for request in self._lenses.requests(engine):
            if request.stage == "waiting":
                yield ("load", d, request.holder)
            elif request.stage == "reading":
                for worker in request.unread if self._bounds.fine else request.unread[:1]:
                    yield ("read", d, request.holder, worker)
        for index, holder in enumerate(self._lenses.fencing(engine)):
            yield ("fence", d, holder, index)

    # -- faults --------------------------------------------------------------------------------------------------

    def _faults(self, moment: Moment) -> Iterator[Action]:
        for item in moment.distinct():
            yield ("lose", item)
            if item.kind == "message":
                yield ("double", item)
                if not item.held:
                    yield ("hold", item)
        for d in _told_apart(moment):
            yield from self._faults_of(moment, d)
        step = self._lenses.stepping(moment.engine)
        if step.prefill and step.is_through and moment.runs(PRODUCER):
            yield ("abort_prefill",)
        if moment.outside.restarts + 1 < len(PRODUCERS):
            yield ("restart",)
        for who in (PRODUCER, *_told_apart(moment)):
            if moment.runs(who):
                yield ("freeze", who)

    def _faults_of(self, moment: Moment, d: int) -> Iterator[Action]:
        yield from (("crash", d), ("vanish", d))
        if CONSUMERS[d] in self._lenses.reachable(moment.agent):
            yield ("producer_suspects", d)
        if moment.incarnation in self._lenses.reachable(moment.consumers[2 * d]):
            yield ("consumer_suspects", d)
        if not moment.runs(d):
            return
        yield ("shut_down", d)
        for number, offer in enumerate(moment.outside.offers):
            if offer is not None and offer.handed and d not in offer.handed:
                yield ("hand_again", number, d)
        offered = [(number, offer.handed) for number, offer in enumerate(moment.outside.offers) if offer is not None]
        for (number, handed), (other, _) in itertools.permutations(offered, 2):
            if not handed:
                yield ("mix_up", number, other, d)
        for request in self._lenses.requests(moment.consumers[2 * d + 1]):
            if not request.aborted and request.stage in ("waiting", "reading"):
                yield ("abort", d, request.holder)


def _told_apart(moment: Moment) -> Sequence[int]:
    return moment.living if moment.outside.touched else moment.living[:1]
