"""The promises about time and standing, L1, L2, S4 and R20, judged while a run goes on; L3, when it is over.

A promise has its conditions: L2 holds for a consumer whose agent runs and whose messages pass. `Trouble` keeps account
of when they did not. Each bound below is what the protocol needs, by its own constants, and a margin that is said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvlease.fence.verifier import LOST_AFTER_S
from kvlease.protocol import Cause, Standing
from kvlease.protocol.lessee import BACKOFF_MAX_S, RETRY_S, SIBLING_LINGER_S, TRIES
from kvlease.sim.cards import FETCH_TIMEOUT_S
from kvlease.sim.network import is_hello
from kvlease.sim.safety import Violation
from kvlease.sim.standing import Settled, believed, check_beliefs, check_loss, granted, stated
from kvlease.sim.structure import check_lessee, check_lessor, lessee_is_empty, lessor_is_empty
from kvlease.sim.trouble import Trouble

if TYPE_CHECKING:
    from kvlease.sim.decode import Decode
    from kvlease.sim.engine import SimEngine
    from kvlease.sim.world import World

QUICK_S = 1.0
"""From tracking a lease to its claim at the producer, when nothing is wrong: a card, a Hello, a Renew, some turns."""
PAUSE_TOLERANCE = 0.3
"""Of a producer's own pauses, this share may count: each is forgiven but for the lag tolerance."""
STEPS = 3
"""After a lease is over: the step that runs, the one that clears the words, and one that was about to begin."""


@dataclass(slots=True)
class _Wish:
    """A request of a consumer that wants a lease."""

    engine: "SimEngine"
    token: int
    producer: int
    since: float


@dataclass(slots=True)
class _Granted:
    """A lease whose blocks are not yet free, and when anybody last had a right to them."""

    engine: "SimEngine"
    at: float
    wanted_at: float
    frozen_s: float
    """How long the engine had been stopped until then."""
    claimants_died_at: float | None = None
    let_go: dict[str, float] = field(default_factory=dict)
    """Consumers that have wanted it, and when they let go of it last."""
    abandoned: bool = False
    """A consumer that wanted it is no more."""


class Promises:
    """Told of what happens, as `Safety` is; looks into the agents where a promise speaks of what they believe."""

    def __init__(self, world: "World") -> None:
        self.trouble = Trouble(world.agenda)
        self._world = world
        config = world.config
        self._extension_s = config.extension_s
        self.recovery_s = config.extension_s + 2 * TRIES * RETRY_S + BACKOFF_MAX_S + FETCH_TIMEOUT_S + 4 * QUICK_S
        """The longest way back into a session: no copy of a renewal, then of a Hello, was answered; then the longest
        pause, a card that nobody serves, and a fresh start."""
        self._wishes: dict[tuple[int, str], _Wish] = {}
        self._granted: dict[int, _Granted] = {}
        self._settled = Settled()
        self._said_hello: dict[tuple[int, int], float] = {}
        """When the latest Hello of a consumer came to a producer."""
        self._seen: set[tuple[int, int | str]] = set()
        """(incarnation, token or holder) of the ends and losses that were judged."""

    # -- what happens --------------------------------------------------------------------------------------------

    def granted(self, engine: "SimEngine", token: int) -> None:
        now = self._world.agenda.now
        self._granted[token] = _Granted(engine, now, now, engine.frozen_s)

    def wanted(self, engine: "SimEngine", decode: "Decode") -> None:
        """A consumer's scheduler has taken a leased request on."""
        ref = engine.decode.side._refs[decode.request_id]
        if ref is None or decode.truth is None or ref.token != decode.truth:
            # What a bad router made of a reference is nobody's lease.
            return
        grant = self._granted.get(ref.token)
        if grant is not None and grant.engine.incarnation != ref.incarnation:
            return
        self._wishes[engine.incarnation, decode.request_id] = _Wish(
            engine, ref.token, ref.incarnation, self._world.agenda.now
        )

    def let_go(self, engine: "SimEngine", decode: "Decode") -> None:
        """The request is loaded, or over."""
        wish = self._wishes.pop((engine.incarnation, decode.request_id), None)
        if wish is not None:
            self._touch(wish.token)
            if wish.token in self._granted:
                self._granted[wish.token].let_go[engine.name] = self._world.agenda.now

    def engine_ended(self, engine: "SimEngine", death_shows: bool) -> None:
        now = self._world.agenda.now
        wanted = {wish.token for (consumer, _), wish in self._wishes.items() if consumer == engine.incarnation}
        for token, known in self._granted.items():
            # It can not let go any more, or not say that it did.
            known.abandoned |= token in wanted or engine.name in known.let_go
        lessor_view = self._claims_of(engine.incarnation) if death_shows else set()
        for key in [key for key in self._wishes if key[0] == engine.incarnation]:
            self._touch(self._wishes.pop(key).token)
        for token in lessor_view:
            grant = self._granted.get(token)
            if grant is not None:
                grant.claimants_died_at = now
        self._granted = {t: g for t, g in self._granted.items() if g.engine is not engine}

    def _claims_of(self, consumer: int) -> set[int]:
        """Leases that only this consumer claims, by their producers' account."""
        tokens = set()
        for token, grant in self._granted.items():
            lease = grant.engine.agent._lessor.leases.get(token)
            if lease is not None and lease.claims == {consumer}:
                tokens.add(token)
        return tokens

    def heartbeat(self, producer: "SimEngine", request_id: str) -> None:
        """Of a stock consumer."""
        prefill = producer.prefill.held.get(request_id)
        if prefill is not None and prefill.token is not None:
            self._touch(prefill.token)

    def message_arrived(self, source: int, target: int, payload: bytes) -> None:
        """As long as anything of a consumer arrives, its sessions are extended; a Hello proves that it lives."""
        if is_hello(payload):
            self._said_hello[target, source] = self._world.agenda.now
        engine = self._world.engines.get(self._world.network.ports[target].engine)
        if engine is None or engine.incarnation != target:
            return
        session = engine.agent._lessor.sessions.get(source)
        for token in session.claims if session is not None else ():
            self._touch(token)

    def _touch(self, token: int) -> None:
        grant = self._granted.get(token)
        if grant is not None:
            grant.wanted_at = self._world.agenda.now

    # -- what must be --------------------------------------------------------------------------------------------

    def agent_took_a_turn(self, engine: "SimEngine") -> None:
        """After a turn in which anything happened."""
        check_lessor(engine.agent._lessor)
        check_lessee(engine.agent._lessee)
        for revoked in engine.agent._revoked:
            if self._is_news(engine, revoked.token):
                self._settled.revoked(revoked.token, revoked.cause)
                self._world.counts[f"ends.{revoked.cause.value}"] += 1
                self._world.tell(f"{engine.name} ends lease {revoked.token:016x}: {revoked.cause.value}")
                self._judge_end(engine, revoked.token, revoked.cause)
        for holder in engine.agent._lost:
            if self._is_news(engine, holder):
                self._world.tell(f"{engine.name} gives {holder}'s lease up")
                self._judge_loss(engine, holder)
        self._settled.look(engine.incarnation, stated(engine.agent._lessee))
        self._settled.check(granted(engine.agent._lessor))
        self._check_beliefs(engine)

    def _is_news(self, engine: "SimEngine", what: int | str) -> bool:
        key = (engine.incarnation, what)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _judge_end(self, producer: "SimEngine", token: int, cause: Cause) -> None:
        """L2: while a consumer lives, wants it and is heard, only age ends a lease; and R24, no other consumer."""
        if cause is Cause.AGED_OUT:
            return
        now = self._world.agenda.now
        grant = self._granted.get(token)
        if cause is Cause.EXPIRED and grant is not None:
            paused_s = producer.frozen_s - grant.frozen_s
            if now - grant.at < self._world.config.duration_s / 1.02 + paused_s * (1 - PAUSE_TOLERANCE):
                raise Violation(
                    "R26", f"{token:016x} expired after {now - grant.at:.3f} s, {paused_s:.3f} of them a pause"
                )
        for (_, holder), wish in self._wishes.items():
            if wish.token != token or wish.producer != producer.incarnation or wish.engine.agent.died_at is not None:
                continue
            if wish.engine.agent._lessee.standing(holder, wish.engine.clock()) is Standing.LOST:
                continue
            if cause is Cause.ORPHANED:
                self._judge_orphan(producer, wish)
            since = self.trouble.calm_since(producer.name, wish.engine.name, self.recovery_s, wish.since)
            if now - since > QUICK_S + 4 * self._world.plan.turn_s:
                raise Violation(
                    "L2", f"{token:016x} {cause.value}, wanted by {holder} at {wish.engine.name}, who was heard"
                )

    def _judge_orphan(self, producer: "SimEngine", wish: _Wish) -> None:
        """A Hello within the grace proves a report of death false (R18)."""
        consumer, token = wish.engine, wish.token
        hello_at = self._said_hello.get((producer.incarnation, consumer.incarnation), float("-inf"))
        # The report comes with the next message to it: a probe, at the latest.
        doubted_at = self.trouble.doubted_at(producer.name, consumer.name)
        reported_by = doubted_at + 2 * self._world.config.probe_interval_s
        if (
            wish.since < doubted_at
            and hello_at > reported_by + QUICK_S
            and self._world.agenda.now > hello_at + 2 * producer.turn_s
        ):
            raise Violation(
                "L2", f"{token:016x} orphaned; {consumer.name} said Hello at {hello_at:.3f} after the report"
            )

    def _judge_loss(self, consumer: "SimEngine", holder: str) -> None:
        """R20: what a consumer is told of a lease's loss is true."""
        wish = self._wishes.get((consumer.incarnation, holder))
        producer = self._running_agent(wish.producer) if wish is not None else None
        if wish is not None and producer is not None:
            check_loss(consumer.incarnation, wish.token, granted(producer.agent._lessor))

    def begins_to_read(self, consumer: "SimEngine", holders: Iterable[str]) -> None:
        """A lease that is known to be lost is not read at all (R20)."""
        for holder in holders:
            if (consumer.incarnation, holder) in self._seen:
                raise Violation("R20", f"{consumer.name} begins to read {holder}, whose lease it has given up")

    def holds_back(self, consumer: "SimEngine", since: Mapping[str, float]) -> None:
        """A read whose fence cannot be read is given up in good time (L3)."""
        calm = max(self.trouble.calm_since_at(consumer.name), consumer.long_until)
        for holder, at in since.items():
            if self._world.agenda.now > max(at, calm) + LOST_AFTER_S * 1.02 + STEPS * self._world.plan.step_s:
                raise Violation("L3", f"{holder} waits for its fence since {at:.3f}")

    def _engine(self, incarnation: int) -> "SimEngine | None":
        port = self._world.network.ports.get(incarnation)
        engine = self._world.engines[port.engine] if port is not None else None
        return engine if engine is not None and engine.incarnation == incarnation and engine.alive else None

    def _running_agent(self, incarnation: int) -> "SimEngine | None":
        engine = self._engine(incarnation)
        return engine if engine is not None and engine.agent.died_at is None else None

    def _check_beliefs(self, consumer: "SimEngine") -> None:
        """Where nobody was told of a death, perhaps falsely, a moment ago."""
        beliefs = believed(consumer.agent._lessee, consumer.clock())
        for incarnation in sorted({producer for producer, _ in beliefs}):
            producer = self._running_agent(incarnation)
            doubted_s = self._extension_s + self.recovery_s
            if producer is not None and not self.trouble.doubted(producer.name, consumer.name, doubted_s):
                held = granted(producer.agent._lessor)
                check_beliefs(beliefs, consumer.incarnation, held, self._settled.causes)

    def check_all(self) -> None:
        """What can be seen at any time; to be called now and then."""
        self._check_stranded()
        self._check_losses_are_known()

    def _check_losses_are_known(self) -> None:
        """R20, R22: a consumer learns that the incarnation it waits for is no more, when its successor can be asked."""
        now = self._world.agenda.now
        for (_, holder), wish in self._wishes.items():
            if (
                not wish.engine.running
                or wish.engine.agent.died_at is not None
                or self._engine(wish.producer) is not None
            ):
                continue
            port = self._world.network.ports.get(wish.producer)
            successor = self._world.engines.get(port.engine) if port is not None else None
            if successor is None or not successor.running:
                continue
            since = max(wish.since, successor.started_at)
            calm = self.trouble.calm_since(successor.name, wish.engine.name, self.recovery_s, since)
            standing = wish.engine.agent._lessee.standing(holder, wish.engine.clock())
            if now > max(calm, since + self.recovery_s) + QUICK_S and standing is not Standing.LOST:
                raise Violation("R20", f"{holder} waits for {wish.token:016x} of a {successor.name} that is no more")

    def _check_stranded(self) -> None:
        """L1: what nobody wants is free within its deadline, a tick and a step."""
        freed = self._world.safety.leases
        wanted = {wish.token for wish in self._wishes.values()}
        for token, grant in list(self._granted.items()):
            if freed[token].freed:
                del self._granted[token]
                continue
            self._judge_age(token, grant)
            if token in wanted:
                grant.wanted_at, grant.claimants_died_at = self._world.agenda.now, None
            else:
                self._judge_held(token, grant)

    def _judge_age(self, token: int, grant: _Granted) -> None:
        """R25: no lease lives longer than its maximum age, nor for an engine that is wedged, renewed or not."""
        config, now = self._world.config, self._world.agenda.now
        if not grant.engine.running:
            return
        calm = max(self.trouble.calm_since_at(grant.engine.name), grant.engine.long_until)
        slack_s = STEPS * self._world.plan.step_s + QUICK_S
        if now > max(grant.at, calm) + config.max_age_s * 1.02 + slack_s:
            raise Violation(
                "R25", f"{token:016x} was granted at {grant.at:.3f} and is held: max age {config.max_age_s:g} s"
            )
        lease = grant.engine.agent._lessor.leases.get(token)
        claimants = [self._engine(claimant) for claimant in lease.claims] if lease is not None else []
        wedged = [c for c in claimants if c is not None and c.running and now < c.step_until]
        if not claimants or len(wedged) < len(claimants):
            return
        # What is wrong with the wedged engine itself is no excuse.
        spoke = [max(c.step_began, self.trouble.calm_between(grant.engine.name, c.name)) for c in wedged]
        longest_s = (config.stall_limit_s + config.extension_s + config.renew_interval_s) * 1.02
        if now > max(*spoke, grant.at + config.duration_s, calm) + longest_s + slack_s:
            raise Violation(
                "R25", f"{token:016x} is held for {wedged[0].name}, which stands still since {spoke[0]:.3f}"
            )

    def _judge_held(self, token: int, grant: _Granted) -> None:
        config, plan, now = self._world.config, self._world.plan, self._world.agenda.now
        if not grant.engine.running:
            return
        calm = max(self.trouble.calm_since_at(grant.engine.name), grant.engine.long_until)
        steps_s = max(STEPS * plan.step_s, grant.engine.step_until - now)
        longest_s = max(config.duration_s, config.extension_s, config.orphan_grace_s)
        limit = max(grant.wanted_at, grant.at, calm) + longest_s * 1.02 + SIBLING_LINGER_S + self.recovery_s + steps_s
        if now > limit:
            raise Violation(
                "L1",
                f"{token:016x} holds blocks of {grant.engine.name}, and nobody wanted it since {grant.wanted_at:.3f}",
            )
        if grant.let_go and not grant.abandoned and token not in self._settled.causes:
            heard = [
                self.trouble.calm_since(grant.engine.name, c, self.recovery_s, at) for c, at in grant.let_go.items()
            ]
            agents = [self._world.engines[name].agent for name in (grant.engine.name, *grant.let_go)]
            if now > max(*heard, calm) + SIBLING_LINGER_S + 2 * QUICK_S and all(a.died_at is None for a in agents):
                raise Violation("L1", f"{token:016x} is held, and {', '.join(grant.let_go)} let go of it")
        if grant.claimants_died_at is not None:
            limit = max(grant.claimants_died_at, calm) + config.orphan_grace_s + 3 * config.probe_interval_s + steps_s
            if now > limit + QUICK_S:
                raise Violation("L1", f"{token:016x} holds blocks of {grant.engine.name} for the dead")

    # -- in the end ----------------------------------------------------------------------------------------------

    def check_nobody_is_known(self) -> None:
        """L3: when nobody has wanted anything for long, sessions and connections are no more."""
        for engine in self._world.engines.values():
            if engine.agent.died_at is None:
                lessor_is_empty(engine.agent._lessor)
                lessee_is_empty(engine.agent._lessee)
                if engine.transport.connected:
                    raise Violation("L3", f"{engine.name} keeps connections to {engine.transport.connected}")

    def check_nothing_is_held(self) -> None:
        """L3: when nobody wants anything any more, every lease, slot and block is free."""
        for engine in self._world.engines.values():
            prefill = engine.prefill
            if prefill.has_work or prefill.side.held_blocks or prefill.side.active_leases:
                raise Violation(
                    "L3", f"{engine.name} keeps {prefill.side.active_leases} leases, {prefill.side.slots_used} slots"
                )
            if len(prefill.pool) != self._world.plan.blocks:
                raise Violation("L3", f"{engine.name} has {len(prefill.pool)} of {self._world.plan.blocks} blocks free")
