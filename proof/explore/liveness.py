"""The future of a state when nothing goes wrong any more (L1, L2, L3, R20, R25).

Each question is put to a state by playing on from it without faults, in one fair order: everything that can happen
within the tick, then the next tick. That order is not all orders; but it begins in every state that is asked about, so
everything that the explored orders have led to is judged.
"""

from collections.abc import Callable, Collection

from kvlease.protocol import Cause
from proof.explore.actions import Action
from proof.explore.draft import CONSUMERS, PRODUCER, DraftState
from proof.explore.scale import CONFIG
from proof.explore.state import State
from proof.explore.world import ExploredWorld
from proof.promises.safety import Violation
from proof.promises.standing import NOT_TOLD, believed
from proof.promises.structure import lessee_is_empty, lessor_is_empty

PEACE_TICKS = 24
"""The ticks that are played without faults: more than any session lives without a claim, with all its retries."""
ENGINE = frozenset({"load", "read", "fence"})
"""The actions of a consumer's engine."""


class LivenessChecks:
    """Puts the questions to states. `path` is what was played on the way to the last answer."""

    def __init__(self, world: ExploredWorld) -> None:
        self.asked = 0
        self.path: list[Action] = []
        self._world = world
        self._good: set[tuple[tuple[object, ...], State]] = set()
        """States from which a question is known to be answered well."""

    def ask_all(self, state: State) -> None:
        """Put all questions to a state. Raises `Violation` of L1, L2, L3, R20 or R25, or whatever else is broken."""
        self.asked += 1
        for question in (self.converges, self.is_given_back, self.is_kept, self.is_told):
            self.path = []
            question(state)

    def converges(self, state: State) -> None:
        """Check that nothing is left of anything when the faults stop, requests are read to their end, and others are
        given the blocks (L3)."""
        begin = self._in_peace(state)
        last = begin.tick + PEACE_TICKS
        rest = self._play(("L3",), begin, lambda s: s.tick >= last or self._is_quiet(s))
        if rest is None:
            return
        self._check_back("L3", rest)
        begin = self._fill("L3", rest)
        last = begin.tick + PEACE_TICKS
        end = self._play(("L3 given",), begin, lambda s: s.tick >= last or self._is_empty(s))
        if end is not None:
            self._check_empty(end)

    def is_given_back(self, state: State) -> None:
        """Check that others can have the blocks after the last deadline when all consumers vanish now, unseen (L1)."""
        draft = self._world.draft(self._in_peace(state))
        for d in draft.living:
            self._world.let_vanish(draft, d)
        # Nobody uses the offers any more: without them many states lead to one question.
        draft.change(offers=(), doubted=())
        deadline = state.tick + round(max(CONFIG.duration_s, CONFIG.extension_s))
        over = lambda now: now.tick > deadline or self._has_all_back(now)  # noqa: E731
        end = self._play(("L1", deadline), draft.state(), over)
        if end is not None:
            self._check_back("L1", end)
            self._fill("L1", end)

    def is_kept(self, state: State) -> None:
        """Check that what consumers hold is kept until its age ends it, while their engines do nothing (L2)."""
        draft = self._world.draft(state)
        views = self._world.views
        if draft.outside.frozen or draft.outside.restarts:
            return
        held = self._kept(draft)
        if not held:
            return
        last = state.tick + 3

        def over(now: State) -> bool:
            causes: dict[int, Cause] = views.settled(now.books).causes
            for token in held - views.granted(now.agent).live:
                if causes.get(token) not in NOT_TOLD:
                    raise Violation(
                        "L2", f"{token:x} was held by a consumer that lives, and is over: {causes.get(token)}"
                    )
            return now.tick >= last

        self._play(("L2", last, *sorted(held)), self._in_peace(state), over, without=ENGINE)

    def _kept(self, draft: DraftState) -> frozenset[int]:
        """The leases that living consumers believe to hold, and must go on holding.

        One that had lapsed and was claimed again is kept as long as its word is armed; where workers clear it by order,
        it may be too late for that.
        """
        views, settled = self._world.views, self._world.views.settled(draft.books)
        believing = {
            token
            for d in draft.living
            if d not in draft.outside.doubted
            and all(session.is_open for session in views.stated(draft.consumers[2 * d]))
            for _, token in believed(views.part(draft.consumers[2 * d]).core.peer.lessee.snapshot(), draft.now)
        }
        lapsed = settled.causes.keys() if self._world.bounds.by_order else ()
        return views.granted(draft.agent).live & believing - set(lapsed)

    def is_told(self, state: State) -> None:
        """Check that age ends the hold of all leases (R25), and that all consumers hear of it when others are given
        the blocks (R20), while their engines do nothing."""
        begin = self._in_peace(state)
        last = begin.tick + PEACE_TICKS
        over = lambda now: now.tick > last or self._has_all_back(now)  # noqa: E731
        rest = self._play(("R25",), begin, over, without=ENGINE)
        if rest is None:
            return
        self._check_back("R25", rest)
        begin = self._fill("R25", rest)
        last_told = begin.tick + PEACE_TICKS
        told = lambda now: now.tick > last_told or self._all_know(now)  # noqa: E731
        end = self._play(("R20",), begin, told, without=ENGINE)
        if end is not None and not self._all_know(end):
            raise Violation("R20", "a consumer was never told that its lease has ended")

    # -- how it is played ----------------------------------------------------------------------------------------

    def _play(
        self,
        question: tuple[object, ...],
        state: State,
        over: Callable[[State], bool],
        without: Collection[str] = (),
    ) -> State | None:
        """Play on until it is over; returns None where that is known to end well."""
        passed: list[tuple[tuple[object, ...], State]] = []
        while not over(state):
            if (question, state) in self._good:
                self._good.update(passed)
                return None
            passed.append((question, state))
            action = next(action for action in self._world.actions_in_peace(state) if action[0] not in without)
            self.path.append(action)
            state = self._world.after(state, action)
        # Whoever asks goes on from here, and a question that is answered ill ends everything.
        self._good.update(passed)
        return state

    def _fill(self, rule: str, state: State) -> State:
        """Give all blocks to others, and have them back: with the last lease that had lapsed, its slot is free."""
        self.path.append(("fill",))
        filled = self._world.fill(state)
        if self._world.views.part(filled.engine).side.slots.snapshot().used:
            raise Violation(rule, "all blocks were given to others, and slots are not free")
        return filled

    def _check_back(self, rule: str, state: State) -> None:
        if not self._has_all_back(state):
            raise Violation(rule, "every lease should be over by now, and blocks are not free")

    def _all_know(self, state: State) -> bool:
        """Tells whether no living consumer still wants a lease that it does not know to be lost."""
        views, draft = self._world.views, self._world.draft(state)
        return not any(views.part(draft.consumers[2 * d]).core.peer.lessee.snapshot().holders for d in draft.living)

    def _in_peace(self, state: State) -> State:
        draft = self._world.draft(state)
        draft.change(faults=0, frozen=(), touched=True)
        return draft.state()

    def _has_all_back(self, state: State) -> bool:
        """Tells whether others can be given all blocks."""
        engine = self._world.views.part(state.engine)
        # Where workers clear words by order, a slot is free some steps later.
        slots = engine.side.fences.at_once or not engine.side.slots.snapshot().used
        return engine.pool.free == self._world.bounds.blocks and slots and engine.step is None

    def _is_quiet(self, state: State) -> bool:
        """Tells whether no request needs anything of anybody any more."""
        draft = self._world.draft(state)
        return self._has_all_back(state) and not any(
            self._world.views.tasks(draft.consumers[2 * d + 1]) for d in draft.living
        )

    def _is_empty(self, state: State) -> bool:
        try:
            self._check_empty(state)
        except Violation:
            return False
        return True

    def _check_empty(self, state: State) -> None:
        views, draft = self._world.views, self._world.draft(state)
        if draft.flying or not self._has_all_back(state):
            raise Violation("L3", f"blocks are not free, or something is on its way: {draft.flying}")
        for who in (PRODUCER, *draft.living):
            agent = views.part(draft.agent_of(who))
            known = agent.core.snapshot().peer
            lessor_is_empty(known.lessor)
            lessee_is_empty(known.lessee)
            if known.links or agent.wire.reachable:
                raise Violation("L3", f"{who} keeps links to {sorted(agent.wire.reachable)}")
            if who != PRODUCER and views.tasks(draft.consumers[2 * who + 1]):
                raise Violation("L3", f"{CONSUMERS[who]:x} keeps requests")
