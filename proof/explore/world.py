"""The explored world: what happens when an action is taken, and whether a promise was broken by it."""

from dataclasses import replace
from typing import Any

from kvlease.protocol import LeaseRef
from proof.explore.actions import Action, Actions
from proof.explore.agent import Agent
from proof.explore.books import Books
from proof.explore.cell import NOBODY, Cells
from proof.explore.consumer import ENDPOINT, ConsumerEngine
from proof.explore.lenses import Lenses
from proof.explore.moment import CONSUMERS, PRODUCER, PRODUCERS, Moment, Tables, receiver
from proof.explore.producer import ProducerEngine
from proof.explore.scale import START_S, Bounds
from proof.explore.state import Item, Offer, Outside, State
from proof.promises.safety import Violation
from proof.promises.standing import believed, check_beliefs, check_loss

LONGEST_FOLLOWING = 64
"""The bound on actions that follow at once on another; it is more than there are blocks and words to read."""


class World:
    """The bounded world. It is deterministic: a state and the number of an action give the next state."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.cells = Cells()
        self.tables = Tables()
        self.lenses = Lenses(self.cells)
        self._actions = Actions(self.cells, self.lenses, bounds)
        self._peaceful = Actions(self.cells, self.lenses, replace(bounds, beats=1 << 30, sizes=()))
        self._cards: dict[int, bytes] = {}
        self._sound: set[tuple[Any, ...]] = set()
        """Pairs of parts that were found to agree."""

    def start(self) -> State:
        books = Books()
        books.safety.producer_starts(PRODUCERS[0], self.bounds.workers)
        consumers: list[int] = []
        for d in range(self.bounds.consumers):
            consumers.append(self.cells.add(Agent(f"decode-{d}", CONSUMERS[d], START_S)))
            consumers.append(self.cells.add(ConsumerEngine(CONSUMERS[d], self.bounds, START_S)))
        return State(
            0,
            self.tables.outside.number(Outside(self.bounds.faults)),
            self.tables.flying.number(()),
            self.cells.add(books),
            self.cells.add(Agent("prefill", PRODUCERS[0], START_S)),
            self.cells.add(ProducerEngine(PRODUCERS[0], self.bounds, 0, START_S)),
            tuple(consumers),
        )

    def actions(self, state: State) -> list[Action]:
        """The actions that can happen in this state."""
        return self._actions.possible(self.moment(state))

    def actions_in_peace(self, state: State) -> list[Action]:
        """The actions that can happen without faults, new prefills, more references handed out, and an end of time.

        Consumers take their turns before the producer does.
        """
        found = self._peaceful.possible(self.moment(state))
        return sorted((action for action in found if action[0] != "hand"), key=lambda action: action == ("turn", -1))

    def after(self, state: State, action: Action) -> State:
        """The state after this action. Raises `Violation`."""
        moment = self.moment(state)
        self._do(moment, action)
        followed = 0
        while not self.bounds.fine and (follows := self._actions.eager(moment)) is not None:
            followed += 1
            if followed > LONGEST_FOLLOWING:
                raise Violation("error", f"{follows[0]} is done again and again")
            self._do(moment, follows)
        return moment.state()

    def moment(self, state: State) -> Moment:
        return Moment(state, self.cells, self.lenses, self.tables)

    def _do(self, moment: Moment, action: Action) -> None:
        getattr(self, f"_{action[0]}")(moment, *action[1:])
        self._judge(moment)

    # -- the usual -----------------------------------------------------------------------------------------------

    def _pass(self, moment: Moment) -> None:
        """A beat is over."""
        moment.beat += 1
        for who in (PRODUCER, *moment.living):
            if moment.runs(who) and not self._actions.is_due(moment, who):
                moment.tell_agent(who, "turn")

    def _turn(self, moment: Moment, who: int) -> None:
        moment.tell_agent(who, "turn")

    def _deliver(self, moment: Moment, item: Item) -> None:
        moment.flying.remove(item)
        who = receiver(item)
        match item.kind:
            case "message":
                moment.tell_agent(who, "hear", item.sender, item.payload)
            case "card":
                moment.tell_agent(who, "answer", ENDPOINT, self._card(moment))
            case _:
                moment.tell_consumer(who, "card", self._card(moment))

    def _schedule(self, moment: Moment, prefill: bool) -> None:
        revoked, _ = moment.take(PRODUCER)
        if not prefill:
            moment.tell_producer("schedule", revoked, None, 0)
            return
        asked = moment.outside.asked
        moment.change(asked=asked + 1, offers=(*moment.outside.offers, None))
        moment.tell_producer("schedule", revoked, f"prefill-{asked}", self.bounds.sizes[asked])

    def _part(self, moment: Moment, worker: int) -> None:
        moment.tell_producer("part", worker)

    def _write(self, moment: Moment, worker: int) -> None:
        moment.tell_producer("write", worker)

    def _finish(self, moment: Moment, aborted: bool = False) -> None:
        offer = moment.tell_producer("finish", aborted)
        if offer is not None:
            moment.change(offers=(*moment.outside.offers[:-1], Offer(*offer)))

    def _hand(self, moment: Moment, number: int, d: int) -> None:
        self._take_on(moment, number, number, d)

    def _take_on(self, moment: Moment, number: int, other: int, d: int) -> None:
        """The request for prompt `number` comes to a consumer with the reference to prompt `other`."""
        offers = list(moment.outside.offers)
        offer, handed = offers[number], offers[other]
        assert offer is not None
        assert handed is not None
        self._touch(moment)
        offers[number] = offer._replace(handed=(*offer.handed, d))
        moment.change(offers=tuple(offers))
        moment.tell_consumer(d, "take_on", number, handed.ref, handed.blocks, offer.ref.token)

    def _load(self, moment: Moment, d: int, holder: str) -> None:
        _, lost = moment.take(d)
        moment.tell_consumer(d, "begin", holder, lost)

    def _read(self, moment: Moment, d: int, holder: str, worker: int) -> None:
        moment.tell_consumer(d, "read", holder, worker, self._block(moment, d, holder, worker))

    def _fence(self, moment: Moment, d: int, holder: str, index: int) -> None:
        moment.tell_consumer(d, "fence", holder, index, self._word(moment, d, index))

    def _block(self, moment: Moment, d: int, holder: str, worker: int) -> int | None:
        """The content of the next block of this request; None where its producer is no more."""
        task = self.lenses.tasks(moment.consumers[2 * d + 1])[holder]
        if task.ref.incarnation != moment.incarnation:
            return None
        block: int = task.blocks[task.read[worker]]
        return self.lenses.contents(moment.engine)[worker][block]

    def _word(self, moment: Moment, d: int, index: int) -> int | None:
        """The content of the word that this read is for; None where its producer is no more."""
        reads = self.lenses.word_reads(moment.consumers[2 * d + 1])
        incarnation, worker = reads[index].agent.split(".")
        if int(incarnation, 16) != moment.incarnation:
            return None
        word: int = self.lenses.tables(moment.engine)[int(worker)].word(reads[index].remote // 8)
        return word

    # -- faults --------------------------------------------------------------------------------------------------

    def _lose(self, moment: Moment, item: Item) -> None:
        self._fault(moment)
        moment.flying.remove(item)
        if item.kind == "card":
            moment.tell_agent(item.to, "answer", ENDPOINT, None)
        elif item.kind == "fences":
            moment.tell_consumer(item.to, "card", None)

    def _double(self, moment: Moment, item: Item) -> None:
        self._fault(moment)
        moment.flying.append(item._replace(held=True))

    def _hold(self, moment: Moment, item: Item) -> None:
        self._fault(moment)
        moment.flying.remove(item)
        moment.flying.append(item._replace(held=True))

    def _hand_again(self, moment: Moment, number: int, d: int) -> None:
        self._fault(moment)
        self._hand(moment, number, d)

    def _mix_up(self, moment: Moment, number: int, other: int, d: int) -> None:
        """The router gives a request the reference of another one."""
        self._fault(moment)
        self._take_on(moment, number, other, d)

    def _abort(self, moment: Moment, d: int, holder: str) -> None:
        self._fault(moment)
        moment.tell_consumer(d, "abort", holder)

    def _abort_prefill(self, moment: Moment) -> None:
        self._fault(moment)
        self._finish(moment, aborted=True)

    def _crash(self, moment: Moment, d: int) -> None:
        """A consumer dies, and whoever sends to it notices."""
        self._fault(moment)
        self._die(moment, d)

    def _vanish(self, moment: Moment, d: int) -> None:
        """A consumer's machine vanishes, and nobody notices."""
        self._fault(moment)
        self.let_vanish(moment, d)

    def let_vanish(self, moment: Moment, d: int) -> None:
        self._die(moment, d)
        moment.change(unseen=(*moment.outside.unseen, d))

    def _shut_down(self, moment: Moment, d: int) -> None:
        self._fault(moment)
        moment.tell_agent(d, "bye")
        self.let_vanish(moment, d)

    def _producer_suspects(self, moment: Moment, d: int) -> None:
        self._fault(moment)
        moment.change(doubted=tuple(sorted({*moment.outside.doubted, d})))
        moment.tell_agent(PRODUCER, "suspect", CONSUMERS[d])

    def _consumer_suspects(self, moment: Moment, d: int) -> None:
        self._fault(moment)
        moment.tell_agent(d, "suspect", moment.incarnation)

    def _restart(self, moment: Moment) -> None:
        """The producer is killed, and another one stands in its place."""
        self._fault(moment)
        old, new = moment.incarnation, PRODUCERS[moment.outside.restarts + 1]
        moment.note((("producer_ends", old), ("producer_starts", new, self.bounds.workers)))
        moment.drop_letters(lambda item: item.kind == "message" and item.to == old)
        moment.change(
            restarts=moment.outside.restarts + 1,
            frozen=tuple(who for who in moment.outside.frozen if who != PRODUCER),
        )
        moment.agent = self.cells.add(Agent("prefill", new, moment.now))
        moment.engine = self.cells.add(ProducerEngine(new, self.bounds, moment.outside.asked, moment.now))

    def _freeze(self, moment: Moment, who: int) -> None:
        self._fault(moment)
        moment.change(frozen=tuple(sorted({*moment.outside.frozen, who})))

    def _thaw(self, moment: Moment, who: int) -> None:
        moment.change(frozen=tuple(other for other in moment.outside.frozen if other != who))

    def _fault(self, moment: Moment) -> None:
        moment.change(faults=moment.outside.faults - 1)
        self._touch(moment)

    def _touch(self, moment: Moment) -> None:
        if not moment.outside.touched:
            moment.change(touched=True)

    def _die(self, moment: Moment, d: int) -> None:
        moment.drop_letters(lambda item: receiver(item) == d)
        moment.consumers[2 * d] = moment.consumers[2 * d + 1] = NOBODY
        moment.change(
            dead=tuple(sorted({*moment.outside.dead, d})),
            frozen=tuple(who for who in moment.outside.frozen if who != d),
        )

    # -- promises ------------------------------------------------------------------------------------------------

    def _judge(self, moment: Moment) -> None:
        """Judge S4, R20 and L2; S1 to S3 were judged with each fact, the structure of the halves with each turn."""
        while moment.lost:
            d, holder = moment.lost.pop()
            ref = self._ref(moment, holder)
            if ref.incarnation == moment.incarnation:
                check_loss(CONSUMERS[d], ref.token, self.lenses.granted(moment.agent))
        if (pair := (moment.books, moment.agent)) not in self._sound:
            self.lenses.settled(moment.books).check(self.lenses.granted(moment.agent))
            self._sound.add(pair)
        for d in moment.living:
            key = (moment.books, moment.agent, moment.consumers[2 * d], moment.beat)
            if key not in self._sound and moment.runs(d) and d not in moment.outside.doubted:
                self._judge_beliefs(moment, d)
                self._sound.add(key)

    def _judge_beliefs(self, moment: Moment, d: int) -> None:
        beliefs = believed(self.lenses.part(moment.consumers[2 * d]).core.peer.lessee.snapshot(), moment.now)
        causes = self.lenses.settled(moment.books).causes
        check_beliefs(beliefs, CONSUMERS[d], self.lenses.granted(moment.agent), causes)

    def _ref(self, moment: Moment, holder: str) -> LeaseRef:
        """The reference to the lease that this request is for."""
        offer = moment.outside.offers[int(holder[1:])]
        assert offer is not None
        return offer.ref

    def _card(self, moment: Moment) -> bytes:
        """The card that the producer's side channel serves, encoded."""
        card = self._cards.get(moment.incarnation)
        if card is None:
            card = self._cards[moment.incarnation] = moment.card(self.bounds.workers, self.bounds.slots)
        return card
