"""The actions that can happen next in a state: an exhaustive list, always in the same order.

Reductions, and why they lose nothing:

- What an engine tells its agent is heard in a turn at once. The agent's thread might be later within the tick; but it
  takes what the engine says before what the network brings, so this differs from being later only in when its messages
  leave, and they may take until the end of the tick anyway.
- A prefill takes its blocks without having heard the news that are there, and hears them right after. A scheduler asks
  for news before it takes blocks; but the agent may have more a moment later, so no order is left out. Those in which
  the news wait for longer than a moment are explored besides.
- A turn in which nothing is due is taken as soon as the tick begins (`World._pass`). It sends nothing and changes
  nothing but the time that was last seen, as would any turn later in the tick.
- Consumers are alike but for their names. So nothing is done to the second before something was done to the first.
- Unless the bounds ask for `fine` steps, some actions follow at once on what makes them possible (`eager`).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from kvlease.engine.worker import StepPart
from proof.explore.draft import CONSUMERS, PRODUCER, PRODUCERS, DraftState, receiver
from proof.explore.parts import Parts
from proof.explore.scale import Bounds
from proof.explore.views import Views
from proof.promises.safety import Violation

Action = tuple[Any, ...]
FAULTS = (
    "lose", "double", "hold", "hand_again", "mix_up", "abort", "abort_prefill", "crash", "vanish", "shut_down",
    "producer_suspects", "consumer_suspects", "restart", "freeze", "reset", "revoke",
)  # fmt: skip
"""Names of the actions that cost a fault."""


class Actions:
    """Lists the actions that can happen in a state."""

    def __init__(self, parts: Parts, views: Views, bounds: Bounds) -> None:
        self._parts, self._views, self._bounds = parts, views, bounds
        self._kinds = frozenset(bounds.kinds or FAULTS)
        self._due: dict[tuple[int, int, frozenset[int]], bool] = {}

    def possible(self, draft: DraftState) -> list[Action]:
        """All actions that can happen now."""
        found = [*self._usual(draft)]
        if draft.outside.faults:
            found += [action for action in self._faults(draft) if action[0] in self._kinds]
        return found

    def eager(self, draft: DraftState) -> Action | None:
        """The action that happens at once, when the steps are not `fine`: at the moment that is worst for the promises.

        - A lapse is heard at once, and with it all news if there are no others. Until it is heard, the engine goes on
          as before the agent's turn, so whatever it does then it could have done before that turn: the two know nothing
          of each other. What is lost is the order in which blocks that become free in one step join the queue. A claim
          that comes meanwhile finds the lease held or, heard a moment later, takes the same blocks out of the queue
          again. News that a lease lives again wait, since the worst is done before they are heard.
        - A worker loads and writes as soon as the step is scheduled, and arms where it does that. Nobody knows the new
          token before the step is over, so when its word was armed cannot be told from outside. The words that vouched
          for the blocks were cleared before, when these were given away; so who still reads them is harmed the more
          the sooner they are written. What nothing waits for is cleared at once, too.
        - All blocks of a lease are read at one moment, the last one. A block of a lease, lapsed or not, is right until
          it is given away, and wrong ever after: a lease that has lost a block never lives again, and no token is used
          twice. So whatever a read at an earlier moment would find wrong, or too late, the last one finds as well.
        - The words are read right after the blocks. A word that is cleared never holds its token again, not even where
          the lease is claimed again: whatever a later read would let pass, the earlier one does as well. A verdict
          against the lease comes of a word that is cleared before the blocks are read, too.
        """
        if draft.runs(PRODUCER):
            if self._views.only_lapses(draft.agent):
                return ("hear",)
            step = self._views.stepping(draft.engine)
            if step.unwritten:
                return ("write", step.unwritten[0])
            for worker, part in enumerate(step.next):
                if part is not None and (part is not StepPart.CLEAR or not step.clears):
                    return ("part", worker)
        for d in draft.living:
            at_once = self._views.at_once(draft.consumers[2 * d + 1])
            if at_once is not None:
                return (at_once[0], d, *at_once[1:])
        return None

    def is_due(self, draft: DraftState, who: int) -> bool:
        """Tells whether a turn of this agent does more than look at the clock."""
        key = (draft.agent_of(who), draft.tick, draft.gone(who))
        due = self._due.get(key)
        if due is None:
            due = self._due[key] = self._find_due(*key, draft.now)
        return due

    def _find_due(self, agent: int, tick: int, gone: frozenset[int], now: float) -> bool:
        del tick
        try:
            after, outcome = self._parts.run(agent, now, ("turn", gone))
        except Violation:
            return True
        return any(outcome) or not self._parts.is_quiet(agent, after)

    # -- the usual -----------------------------------------------------------------------------------------------

    def _usual(self, draft: DraftState) -> Iterator[Action]:
        urgent = False
        for item in draft.distinct():
            if draft.runs(receiver(item)):
                urgent = urgent or not item.held
                yield ("deliver", item)
        due = False
        for who in (PRODUCER, *draft.living):
            if draft.runs(who) and self.is_due(draft, who):
                due = True
                yield ("turn", who)
        if draft.runs(PRODUCER):
            yield from self._producer(draft)
        for d in _told_apart(draft):
            if draft.runs(d):
                yield from self._consumer(draft, d)
        for who in draft.outside.frozen:
            yield ("thaw", who)
        if draft.tick < self._bounds.ticks and not due and not urgent:
            yield ("pass",)

    def _producer(self, draft: DraftState) -> Iterator[Action]:
        step = self._views.stepping(draft.engine)
        if not step.next:
            if self._views.has_news(draft.agent):
                yield ("hear",)
            if step.ordered:
                yield ("schedule", False)
            asked = draft.outside.asked
            free = step.free + (step.cached and asked < self._bounds.alike)
            if asked < len(self._bounds.sizes) and self._bounds.sizes[asked] <= free:
                yield ("schedule", True)
                if self._bounds.any_order:
                    yield ("schedule", True, True)
        elif step.is_through:
            yield ("finish",)
        else:
            for worker, part in enumerate(step.next):
                if part is not None:
                    yield ("part", worker)
            for worker in step.unwritten:
                yield ("write", worker)

    def _consumer(self, draft: DraftState, d: int) -> Iterator[Action]:
        for number, offer in enumerate(draft.outside.offers):
            if offer is not None and not offer.handed:
                yield ("hand", number, d)
        engine = draft.consumers[2 * d + 1]
        for request in self._views.requests(engine):
            if request.stage == "waiting":
                yield ("load", d, request.holder)
            elif request.stage == "reading":
                for worker in request.unread if self._bounds.fine else request.unread[:1]:
                    yield ("read", d, request.holder, worker)
        for index, holder in enumerate(self._views.fencing(engine)):
            yield ("fence", d, holder, index)

    # -- faults --------------------------------------------------------------------------------------------------

    def _faults(self, draft: DraftState) -> Iterator[Action]:
        for item in draft.distinct():
            yield ("lose", item)
            if item.kind == "message":
                yield ("double", item)
                if not item.held:
                    yield ("hold", item)
        for d in _told_apart(draft):
            yield from self._faults_of(draft, d)
        step = self._views.stepping(draft.engine)
        if step.prefill and step.is_through and draft.runs(PRODUCER):
            yield ("abort_prefill",)
        if draft.runs(PRODUCER) and any(self._views.leased(draft.engine)[:2]):
            yield ("reset",)
        if draft.runs(PRODUCER):
            yield from (("revoke", token) for token in sorted(self._views.granted(draft.agent).live))
        if draft.outside.restarts + 1 < len(PRODUCERS):
            yield ("restart",)
        for who in (PRODUCER, *_told_apart(draft)):
            if draft.runs(who):
                yield ("freeze", who)

    def _faults_of(self, draft: DraftState, d: int) -> Iterator[Action]:
        yield from (("crash", d), ("vanish", d))
        if CONSUMERS[d] in self._views.reachable(draft.agent):
            yield ("producer_suspects", d)
        if draft.incarnation in self._views.reachable(draft.consumers[2 * d]):
            yield ("consumer_suspects", d)
        if not draft.runs(d):
            return
        yield ("shut_down", d)
        for number, offer in enumerate(draft.outside.offers):
            if offer is not None and offer.handed and d not in offer.handed:
                yield ("hand_again", number, d)
        offered = [(number, offer.handed) for number, offer in enumerate(draft.outside.offers) if offer is not None]
        for (number, handed), (other, _) in itertools.permutations(offered, 2):
            if not handed:
                yield ("mix_up", number, other, d)
        for request in self._views.requests(draft.consumers[2 * d + 1]):
            if not request.aborted and request.stage in ("waiting", "reading"):
                yield ("abort", d, request.holder)


def _told_apart(draft: DraftState) -> Sequence[int]:
    return draft.living if draft.outside.touched else draft.living[:1]
