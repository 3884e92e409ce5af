"""The promises about standing, judged while a run goes on: L2, S4, R18, R20, R22 and R26.

A promise has its conditions: L2 holds for a consumer whose agent runs and whose messages pass. `Trouble` keeps account
of when they did not. Each bound below is what the protocol needs, by its own constants, and a margin that is said.
"""

from collections.abc import Iterable, Mapping

from kvlease.fence import Verdict
from kvlease.fence.verifier import LOST_AFTER_S
from kvlease.protocol import TIMING, Cause, LeaseRef, LeaseState, LessorSnapshot, Standing
from kvlease.protocol.effects import Lapse, LeaseNews
from proof.promises.safety import Violation
from proof.promises.standing import Settled, believed, check_beliefs, check_loss, granted, stated
from proof.promises.structure import check_lessee, check_lessor
from proof.simulate.cards import FETCH_TIMEOUT_S
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.facts import Facts, Wish
from proof.simulate.requests import Decode
from proof.simulate.trouble import Trouble

QUICK_S = 1.0
"""The time from tracking a lease to its claim, when nothing is wrong: a card, a Hello, a Renew, some turns."""
PAUSE_TOLERANCE = 0.3
"""The share of a producer's own pauses that may count: each is forgiven but for the lag tolerance."""
STEPS = 3
"""The steps from a lease's end to free blocks: one that runs, one that clears the words, one about to begin."""


class Promises:
    """The judge of these promises; it looks into the agents where a promise speaks of what they believe."""

    def __init__(self, context: Context, engines: Mapping[str, SimEngine], facts: Facts) -> None:
        self.trouble = Trouble(context.agenda)
        self.settled = Settled()
        self._context = context
        self._engines = engines
        self._facts = facts
        config = context.config
        self._extension_s = config.extension_s
        self.recovery_s = (
            config.extension_s
            + 2 * TIMING.tries * TIMING.retry_s
            + TIMING.backoff_max_s
            + FETCH_TIMEOUT_S
            + 4 * QUICK_S
        )
        """The longest way back into a session: no copy of a renewal, then of a Hello, was answered; then the longest
        pause, a card that nobody serves, and a fresh start."""
        self._lost: set[tuple[int, str]] = set()
        """(incarnation, holder) of the losses that were judged."""
        self._news: dict[int, tuple[LeaseNews, ...]] = {}
        """The news that each agent had for its engine after its last turn, by incarnation: they were judged."""
        self._known: dict[int, dict[int, LeaseState]] = {}
        """The leases that each lessor knew after its last turn, by incarnation."""
        self._cut_short: set[int] = set()
        """The leases that ended while their lessor held them: the cache was reset, or a claim had come too late."""

    def agent_took_a_turn(self, engine: SimEngine) -> None:
        """Judge an agent after a turn in which anything happened."""
        seen = engine.agent.snapshot()
        check_lessor(seen.peer.lessor)
        check_lessee(seen.peer.lessee)
        self._hear_of_ends(seen.peer.lessor)
        before = self._news.get(engine.incarnation, ())
        self._news[engine.incarnation] = seen.news
        for news in seen.news:
            if not any(news is known for known in before):
                self._hear(engine, news)
        for holder in seen.lost:
            if (engine.incarnation, holder) not in self._lost:
                self._lost.add((engine.incarnation, holder))
                self._context.tell(f"{engine.name} gives {holder}'s lease up")
                self._judge_loss(engine, holder)
        self.settled.look(engine.incarnation, stated(seen.peer.lessee))
        self.settled.check(granted(seen.peer.lessor))
        self._check_beliefs(engine)

    def _hear(self, engine: SimEngine, news: LeaseNews) -> None:
        """Take note of what a lessor has decided."""
        if isinstance(news, Lapse):
            self.settled.lapsed(news.token, news.cause)
            self._context.counts[f"ends.{news.cause}"] += 1
            self._context.tell(f"{engine.name} lets lease {news.token:016x} lapse: {news.cause}")
            self._judge_end(engine, news.token, news.cause)
            return
        self._context.counts["ends.revived"] += 1
        self._facts.revived(news.token)
        self._context.tell(f"{engine.name} revives lease {news.token:016x}")
        if (cause := self.settled.causes[news.token]) in (Cause.AGED_OUT, Cause.ABORTED, Cause.REVOKED):
            raise Violation("R25", f"{news.token:016x} is {cause}, and lives again")

    def _hear_of_ends(self, lessor: LessorSnapshot) -> None:
        """Take note of leases that the lessor knew and does not know any more: their words are clear."""
        now = {lease.token: lease.state for lease in lessor.leases}
        known = self._known.get(lessor.incarnation, {})
        self._known[lessor.incarnation] = now
        for token in known.keys() - now.keys():
            self.settled.has_ended(token)
            if known[token] is not LeaseState.LAPSED:
                self._cut_short.add(token)

    def gives(self, producer: SimEngine, block: int) -> None:
        """Judge the moment before a block is given away: no lease whose lessor holds it may be read from it (S2)."""
        if producer.agent.died_at is not None or producer.agent.has_news:
            return
        for token in self._context.safety.vouched(producer.incarnation, block):
            lease = producer.agent.peer.lessor.leases.get(token)
            if lease is not None and lease.state is not LeaseState.LAPSED:
                raise Violation("S2", f"block {block} of {token:016x} is given away, and it is {lease.state}")

    def verified(self, consumer: SimEngine, decode: Decode, verdict: Verdict) -> None:
        """Judge a fence's verdict: what can still be read is not refused, however late the read was (L2)."""
        assert decode.params is not None
        ref = LeaseRef.from_params(decode.params["kv_lease"])
        producer = self._facts.engine(ref.incarnation)
        late = producer is not None and producer.prefill.side.blocks.has_lapsed(ref.token)
        self._context.counts[f"verdicts.{verdict.name.lower()}{', after it had lapsed' if late else ''}"] += 1
        if verdict is not Verdict.REVOKED or producer is None:
            return
        if self._context.safety.is_readable(ref.incarnation, ref.token, ref.slot):
            raise Violation("L2", f"{consumer.name} takes {ref.token:016x} for revoked, which it is not")

    def _judge_end(self, producer: SimEngine, token: int, cause: Cause) -> None:
        """Judge a lease's end: while a consumer lives, wants it and is heard, only age ends it (L2), no other consumer
        (R24), unless an operator says so."""
        if cause in (Cause.AGED_OUT, Cause.REVOKED):
            return
        now = self._context.agenda.now
        grant = self._facts.grants.get(token)
        if cause is Cause.EXPIRED and grant is not None:
            paused_s = producer.frozen_s - grant.frozen_s
            if now - grant.at < self._context.config.duration_s / 1.02 + paused_s * (1 - PAUSE_TOLERANCE):
                raise Violation(
                    "R26", f"{token:016x} expired after {now - grant.at:.3f} s, {paused_s:.3f} of them a pause"
                )
        # Where no consumer of kvlease let go of it, a stock one has.
        noticed = len(grant.read_by) if cause is Cause.RELEASED and grant is not None and not grant.let_go else 0
        if 0 < noticed < len(producer.prefill_workers):
            raise Violation("L2", f"{token:016x} {cause}: a stock consumer has read from {noticed} workers only")
        for (_, holder), wish in self._facts.wishes.items():
            if wish.token != token or wish.producer != producer.incarnation or wish.engine.agent.died_at is not None:
                continue
            if wish.engine.agent.peer.lessee.standing(holder, wish.engine.clock()) is Standing.LOST:
                continue
            if cause is Cause.ORPHANED:
                self._judge_orphan(producer, wish)
            since = self.trouble.calm_since(producer.name, wish.engine.name, self.recovery_s, wish.since)
            if now - since > QUICK_S + 4 * self._context.plan.turn_s:
                raise Violation("L2", f"{token:016x} {cause}, wanted by {holder} at {wish.engine.name}, who was heard")

    def _judge_orphan(self, producer: SimEngine, wish: Wish) -> None:
        """A Hello within the grace proves a report of death false (R18)."""
        consumer, token = wish.engine, wish.token
        hello_at = self._facts.said_hello.get((producer.incarnation, consumer.incarnation), float("-inf"))
        # The report comes with the next message to it: a probe, at the latest.
        doubted_at = self.trouble.doubted_at(producer.name, consumer.name)
        reported_by = doubted_at + 2 * self._context.config.probe_interval_s
        if (
            wish.since < doubted_at
            and hello_at > reported_by + QUICK_S
            and self._context.agenda.now > hello_at + 2 * producer.turn_s
        ):
            raise Violation(
                "L2", f"{token:016x} orphaned; {consumer.name} said Hello at {hello_at:.3f} after the report"
            )

    def _judge_loss(self, consumer: SimEngine, holder: str) -> None:
        """Judge a loss: what a consumer is told of it is true (R20)."""
        wish = self._facts.wishes.get((consumer.incarnation, holder))
        producer = self._facts.with_agent(wish.producer) if wish is not None else None
        if wish is not None and producer is not None:
            check_loss(consumer.incarnation, wish.token, granted(producer.agent.peer.lessor.snapshot()))

    def begins_to_read(self, consumer: SimEngine, holders: Iterable[str]) -> None:
        """Judge the beginning of reads: a lease that is known to be lost is not read at all (R20)."""
        for holder in holders:
            if (consumer.incarnation, holder) in self._lost:
                raise Violation("R20", f"{consumer.name} begins to read {holder}, whose lease it has given up")

    def holds_back(self, consumer: SimEngine, since: Mapping[str, float]) -> None:
        """Judge reads that wait for their fence: one whose fence cannot be read is given up in good time (L3)."""
        calm = max(self.trouble.calm_since_at(consumer.name), consumer.long_until)
        for holder, at in since.items():
            if self._context.agenda.now > max(at, calm) + LOST_AFTER_S * 1.02 + STEPS * self._context.plan.step_s:
                raise Violation("L3", f"{holder} waits for its fence since {at:.3f}")

    def _check_beliefs(self, consumer: SimEngine) -> None:
        """Compare a consumer's beliefs with producers that were not told of its death, perhaps falsely, just now."""
        beliefs = believed(consumer.agent.peer.lessee.snapshot(), consumer.clock())
        for incarnation in sorted({producer for producer, _ in beliefs}):
            producer = self._facts.with_agent(incarnation)
            doubted_s = self._extension_s + self.recovery_s
            if producer is not None and not self.trouble.doubted(producer.name, consumer.name, doubted_s):
                held = granted(producer.agent.peer.lessor.snapshot())
                check_beliefs(beliefs, consumer.incarnation, held, self.settled.causes, self._cut_short)

    def check_losses_are_known(self) -> None:
        """Check that a consumer learns of the end of an incarnation when its successor can be asked (R20, R22)."""
        now = self._context.agenda.now
        for (_, holder), wish in self._facts.wishes.items():
            if (
                not wish.engine.running
                or wish.engine.agent.died_at is not None
                or self._facts.engine(wish.producer) is not None
            ):
                continue
            port = self._context.network.ports.get(wish.producer)
            successor = self._engines.get(port.engine) if port is not None else None
            if successor is None or not successor.running:
                continue
            since = max(wish.since, successor.started_at)
            calm = self.trouble.calm_since(successor.name, wish.engine.name, self.recovery_s, since)
            standing = wish.engine.agent.peer.lessee.standing(holder, wish.engine.clock())
            if now > max(calm, since + self.recovery_s) + QUICK_S and standing is not Standing.LOST:
                raise Violation("R20", f"{holder} waits for {wish.token:016x} of a {successor.name} that is no more")
