"""The explored world: what happens when an action is taken, and whether a promise was broken by it."""

from dataclasses import replace

from proof.explore.actions import Action, Actions
from proof.explore.agent import AgentPart
from proof.explore.books import BooksPart
from proof.explore.consumer import ENDPOINT, ConsumerEngine
from proof.explore.draft import CONSUMERS, PRODUCER, PRODUCERS, DraftState, Tables, receiver
from proof.explore.judging import Judge
from proof.explore.parts import NOBODY, Parts
from proof.explore.producer import ALIKE, ProducerEngine
from proof.explore.scale import START_S, Bounds
from proof.explore.state import Item, Offer, Outside, State
from proof.explore.views import Views
from proof.promises.safety import Violation

LONGEST_FOLLOWING = 64
"""The bound on actions that follow at once on another; it is more than there are blocks and words to read."""


class ExploredWorld:
    """The bounded world. It is deterministic: a state and the number of an action give the next state."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.parts = Parts()
        self.tables = Tables()
        self.views = Views(self.parts)
        self._actions = Actions(self.parts, self.views, bounds)
        self._peaceful = Actions(self.parts, self.views, replace(bounds, ticks=1 << 30, sizes=()))
        self._cards: dict[int, bytes] = {}
        self._judge = Judge(self.views)
        self.events: list[str] = []
        """The events of the latest `after`, in words."""

    def start(self) -> State:
        books = BooksPart()
        books.safety.producer_starts(PRODUCERS[0], self.bounds.workers)
        consumers: list[int] = []
        for d in range(self.bounds.consumers):
            consumers.append(self.parts.add(AgentPart(f"decode-{d}", CONSUMERS[d], START_S)))
            consumers.append(self.parts.add(ConsumerEngine(CONSUMERS[d], self.bounds, START_S)))
        return State(
            0,
            self.tables.outside.number(Outside(self.bounds.faults)),
            self.tables.flying.number(()),
            self.parts.add(books),
            self.parts.add(AgentPart("prefill", PRODUCERS[0], START_S)),
            self.parts.add(ProducerEngine(PRODUCERS[0], self.bounds, 0, START_S)),
            tuple(consumers),
        )

    def actions(self, state: State) -> list[Action]:
        """The actions that can happen in this state."""
        return self._actions.possible(self.draft(state))

    def actions_in_peace(self, state: State) -> list[Action]:
        """The actions that can happen without faults, new prefills, more references handed out, and an end of time.

        Consumers take their turns before the producer does.
        """
        found = self._peaceful.possible(self.draft(state))
        return sorted((action for action in found if action[0] != "hand"), key=lambda action: action == ("turn", -1))

    def after(self, state: State, action: Action) -> State:
        """The state after this action. Raises `Violation`."""
        draft = self.draft(state)
        self._do(draft, action)
        followed = 0
        while not self.bounds.fine and (follows := self._actions.eager(draft)) is not None:
            followed += 1
            if followed > LONGEST_FOLLOWING:
                raise Violation("error", f"{follows[0]} is done again and again")
            self._do(draft, follows)
        self.events = draft.events
        return draft.state()

    def draft(self, state: State) -> DraftState:
        return DraftState(state, self.parts, self.views, self.tables)

    def _do(self, draft: DraftState, action: Action) -> None:
        getattr(self, f"_{action[0]}")(draft, *action[1:])
        self._judge.judge(draft)

    # -- the usual -----------------------------------------------------------------------------------------------

    def _pass(self, draft: DraftState) -> None:
        """A tick is over."""
        draft.tick += 1
        for who in (PRODUCER, *draft.living):
            if draft.runs(who) and not self._actions.is_due(draft, who):
                draft.tell_agent(who, "turn")

    def _turn(self, draft: DraftState, who: int) -> None:
        draft.tell_agent(who, "turn")

    def _deliver(self, draft: DraftState, item: Item) -> None:
        draft.flying.remove(item)
        who = receiver(item)
        match item.kind:
            case "message":
                draft.tell_agent(who, "hear", item.sender, item.payload)
            case "card":
                draft.tell_agent(who, "answer", ENDPOINT, self._card(draft))
            case _:
                draft.tell_consumer(who, "card", self._card(draft))

    def _hear(self, draft: DraftState) -> None:
        news, _ = draft.take(PRODUCER)
        draft.tell_producer("hear", news)

    def _schedule(self, draft: DraftState, prefill: bool, backwards: bool = False) -> None:
        news, _ = draft.take(PRODUCER)
        if not prefill:
            draft.tell_producer("schedule", news, None, 0)
            return
        asked = draft.outside.asked
        draft.change(asked=asked + 1, offers=(*draft.outside.offers, None))
        draft.tell_producer("schedule", news, f"prefill-{asked}", self.bounds.sizes[asked], backwards)

    def _part(self, draft: DraftState, worker: int) -> None:
        draft.tell_producer("part", worker)

    def _write(self, draft: DraftState, worker: int) -> None:
        draft.tell_producer("write", worker)

    def _finish(self, draft: DraftState, aborted: bool = False) -> None:
        offer = draft.tell_producer("finish", aborted)
        if offer is not None:
            draft.change(offers=(*draft.outside.offers[:-1], Offer(*offer)))

    def _hand(self, draft: DraftState, number: int, d: int) -> None:
        self._take_on(draft, number, number, d)

    def _take_on(self, draft: DraftState, number: int, other: int, d: int) -> None:
        """The request for prompt `number` comes to a consumer with the reference to prompt `other`."""
        offers = list(draft.outside.offers)
        offer, handed = offers[number], offers[other]
        assert offer is not None
        assert handed is not None
        self._touch(draft)
        offers[number] = offer._replace(handed=(*offer.handed, d))
        draft.change(offers=tuple(offers))
        draft.tell_consumer(d, "take_on", number, handed.ref, handed.blocks, offer.ref.token)

    def _load(self, draft: DraftState, d: int, holder: str) -> None:
        _, lost = draft.take(d)
        draft.tell_consumer(d, "begin", holder, lost)

    def _read(self, draft: DraftState, d: int, holder: str, worker: int) -> None:
        draft.tell_consumer(d, "read", holder, worker, self._block(draft, d, holder, worker))

    def _fence(self, draft: DraftState, d: int, holder: str, index: int) -> None:
        draft.tell_consumer(d, "fence", holder, index, self._word(draft, d, index))

    def _block(self, draft: DraftState, d: int, holder: str, worker: int) -> int | None:
        """The content of the next block of this request; None where its producer is no more."""
        task = self.views.tasks(draft.consumers[2 * d + 1])[holder]
        if task.ref.incarnation != draft.incarnation:
            return None
        block: int = task.blocks[task.read[worker]]
        content = self.views.contents(draft.engine)[worker][block]
        # Prompts that begin alike have the same first block, whichever of them it was written for.
        return task.own if content == ALIKE and not task.read[worker] else content

    def _word(self, draft: DraftState, d: int, index: int) -> int | None:
        """The content of the word that this read is for; None where its producer is no more."""
        reads = self.views.word_reads(draft.consumers[2 * d + 1])
        incarnation, worker = reads[index].agent.split(".")
        if int(incarnation, 16) != draft.incarnation:
            return None
        word: int = self.views.tables(draft.engine)[int(worker)].word(reads[index].remote // 8)
        return word

    # -- faults --------------------------------------------------------------------------------------------------

    def _lose(self, draft: DraftState, item: Item) -> None:
        self._fault(draft)
        draft.flying.remove(item)
        if item.kind == "card":
            draft.tell_agent(item.to, "answer", ENDPOINT, None)
        elif item.kind == "fences":
            draft.tell_consumer(item.to, "card", None)

    def _double(self, draft: DraftState, item: Item) -> None:
        self._fault(draft)
        draft.flying.append(item._replace(held=True))

    def _hold(self, draft: DraftState, item: Item) -> None:
        self._fault(draft)
        draft.flying.remove(item)
        draft.flying.append(item._replace(held=True))

    def _hand_again(self, draft: DraftState, number: int, d: int) -> None:
        self._fault(draft)
        self._hand(draft, number, d)

    def _mix_up(self, draft: DraftState, number: int, other: int, d: int) -> None:
        """The router gives a request the reference of another one."""
        self._fault(draft)
        self._take_on(draft, number, other, d)

    def _abort(self, draft: DraftState, d: int, holder: str) -> None:
        self._fault(draft)
        draft.tell_consumer(d, "abort", holder)

    def _abort_prefill(self, draft: DraftState) -> None:
        self._fault(draft)
        self._finish(draft, aborted=True)

    def _crash(self, draft: DraftState, d: int) -> None:
        """A consumer dies, and whoever sends to it notices."""
        self._fault(draft)
        self._die(draft, d)

    def _vanish(self, draft: DraftState, d: int) -> None:
        """A consumer's machine vanishes, and nobody notices."""
        self._fault(draft)
        self.let_vanish(draft, d)

    def let_vanish(self, draft: DraftState, d: int) -> None:
        self._die(draft, d)
        draft.change(unseen=(*draft.outside.unseen, d))

    def _shut_down(self, draft: DraftState, d: int) -> None:
        self._fault(draft)
        draft.tell_agent(d, "bye")
        self.let_vanish(draft, d)

    def _producer_suspects(self, draft: DraftState, d: int) -> None:
        self._fault(draft)
        draft.change(doubted=tuple(sorted({*draft.outside.doubted, d})))
        draft.tell_agent(PRODUCER, "suspect", CONSUMERS[d])

    def _consumer_suspects(self, draft: DraftState, d: int) -> None:
        self._fault(draft)
        draft.tell_agent(d, "suspect", draft.incarnation)

    def _restart(self, draft: DraftState) -> None:
        """The producer is killed, and another one stands in its place."""
        self._fault(draft)
        old, new = draft.incarnation, PRODUCERS[draft.outside.restarts + 1]
        draft.note((("producer_ends", old), ("producer_starts", new, self.bounds.workers)))
        draft.drop_letters(lambda item: item.kind == "message" and item.to == old)
        draft.change(
            restarts=draft.outside.restarts + 1,
            frozen=tuple(who for who in draft.outside.frozen if who != PRODUCER),
        )
        draft.agent = self.parts.add(AgentPart("prefill", new, draft.now))
        draft.engine = self.parts.add(ProducerEngine(new, self.bounds, draft.outside.asked, draft.now))

    def _reset(self, draft: DraftState) -> None:
        """The producer resets its cache."""
        self._fault(draft)
        draft.tell_producer("reset")

    def _revoke(self, draft: DraftState, token: int) -> None:
        """An operator ends a lease."""
        self._fault(draft)
        draft.tell_agent(PRODUCER, "turn", ("revoke", token))

    def fill(self, state: State) -> State:
        """The state in which others were given all free blocks, and have let go of them. Raises `Violation`."""
        draft = self.draft(state)
        draft.tell_producer("fill")
        self._judge.judge(draft)
        return draft.state()

    def _freeze(self, draft: DraftState, who: int) -> None:
        self._fault(draft)
        draft.change(frozen=tuple(sorted({*draft.outside.frozen, who})))

    def _thaw(self, draft: DraftState, who: int) -> None:
        draft.change(frozen=tuple(other for other in draft.outside.frozen if other != who))

    def _fault(self, draft: DraftState) -> None:
        draft.change(faults=draft.outside.faults - 1)
        self._touch(draft)

    def _touch(self, draft: DraftState) -> None:
        if not draft.outside.touched:
            draft.change(touched=True)

    def _die(self, draft: DraftState, d: int) -> None:
        draft.drop_letters(lambda item: receiver(item) == d)
        draft.consumers[2 * d] = draft.consumers[2 * d + 1] = NOBODY
        draft.change(
            dead=tuple(sorted({*draft.outside.dead, d})),
            frozen=tuple(who for who in draft.outside.frozen if who != d),
        )

    def _card(self, draft: DraftState) -> bytes:
        """The card that the producer's side channel serves, encoded."""
        card = self._cards.get(draft.incarnation)
        if card is None:
            card = self._cards[draft.incarnation] = draft.card(self.bounds.workers, self.bounds.slots)
        return card
