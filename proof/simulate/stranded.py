"""No block stays where nobody wants it: L1 and R25 while a run goes on, L3 when it is over."""

import math
from collections.abc import Mapping

from kvlease.protocol import TIMING, Cause
from proof.promises.safety import Violation
from proof.promises.structure import lessee_is_empty, lessor_is_empty
from proof.simulate.context import Context
from proof.simulate.engine import SimEngine
from proof.simulate.facts import Facts, GrantFacts
from proof.simulate.promises import QUICK_S, STEPS, Promises


class Stranded:
    """The judge of what is held too long."""

    def __init__(self, context: Context, engines: Mapping[str, SimEngine], facts: Facts, promises: Promises) -> None:
        self._context = context
        self._engines = engines
        self._facts = facts
        self._promises = promises
        self._trouble = promises.trouble
        self._slack_s = STEPS * context.plan.step_s + QUICK_S

    def check(self) -> None:
        """Check that what nobody wants is given back by its deadline, a tick and a step (L1); to be called often."""
        for engine in self._engines.values():
            if engine.agent.died_at is not None:
                # An engine without an agent is not woken: it takes back what is over when it needs blocks.
                engine.prefill.hear_news()
            engine.prefill.check_references()
        wanted = {wish.token for wish in self._facts.wishes.values()}
        for token, grant in list(self._facts.grants.items()):
            blocks = grant.engine.prefill.side.blocks
            if token not in blocks:
                del self._facts.grants[token]
                continue
            if not blocks.holds(token):
                # Its blocks are free. It may live again.
                self._judge_revoked(token, grant)
                grant.claimants_died_at = None
                continue
            self._judge_age(token, grant)
            if token in wanted:
                grant.wanted_at, grant.claimants_died_at = self._context.agenda.now, None
            else:
                self._judge_held(token, grant)

    def _judge_revoked(self, token: int, grant: GrantFacts) -> None:
        """Check that a revoked lease is readable no more as soon as the engine has heard of it, where that can be."""
        revoked = self._promises.settled.causes.get(token) is Cause.REVOKED
        if revoked and grant.engine.prefill.side.fences.at_once and not grant.engine.agent.has_news:
            raise Violation("S2", f"{token:016x} is revoked, and can still be read")

    def _judge_age(self, token: int, grant: GrantFacts) -> None:
        """Check that no lease lives longer than its maximum age, renewed or not (R25)."""
        config, now = self._context.config, self._context.agenda.now
        if not grant.engine.running:
            return
        if now > max(grant.at, self._calm(grant)) + config.max_age_s * 1.02 + self._slack_s:
            raise Violation(
                "R25", f"{token:016x} was granted at {grant.at:.3f} and is held: max age {config.max_age_s:g} s"
            )
        self._judge_wedged(token, grant)

    def _judge_wedged(self, token: int, grant: GrantFacts) -> None:
        """Check that no lease is held for engines that make no steps, in the middle of one or paused (R25)."""
        config, now = self._context.config, self._context.agenda.now
        lease = grant.engine.agent.peer.lessor.leases.get(token)
        claimants = [self._facts.engine(claimant) for claimant in lease.claims] if lease is not None else []
        wedged = [(c.name, still) for c in claimants if c is not None and c.running and (still := c.stands_still)]
        if not claimants or len(wedged) < len(claimants):
            return
        # Trouble of the wedged engine itself does not excuse the lease.
        renewed_until = [
            max(since, self._trouble.calm_between(grant.engine.name, name)) + may_s * 1.02
            for name, (since, may_s) in wedged
        ]
        longest_s = (config.extension_s + config.renew_interval_s) * 1.02
        # A paused engine that takes a request on claims its lease, once.
        begun_at = max(grant.at + config.duration_s, grant.revived_at)
        if now > max(*renewed_until, begun_at, self._calm(grant)) + longest_s + self._slack_s:
            name, (since, _) = wedged[0]
            raise Violation("R25", f"{token:016x} is held for {name}, which stands still since {since:.3f}")

    def _judge_held(self, token: int, grant: GrantFacts) -> None:
        """Check that an unwanted lease is over by its deadline, sooner where it was dropped or a death noticed (L1)."""
        if not grant.engine.running:
            return
        name, now = grant.engine.name, self._context.agenda.now
        if now > self._latest_end(grant):
            raise Violation("L1", f"{token:016x} holds blocks of {name}, unwanted since {grant.wanted_at:.3f}")
        if self._was_let_go(grant):
            raise Violation("L1", f"{token:016x} is held, and {', '.join(grant.let_go)} let go of it")
        if now > self._latest_end_for_the_dead(grant):
            raise Violation("L1", f"{token:016x} holds blocks of {name} for the dead")

    def _latest_end(self, grant: GrantFacts) -> float:
        config = self._context.config
        longest_s = max(config.duration_s, config.extension_s, config.orphan_grace_s) * 1.02
        unwanted_since = max(grant.wanted_at, grant.at, self._calm(grant))
        return unwanted_since + longest_s + TIMING.sibling_linger_s + self._promises.recovery_s + self._steps_s(grant)

    def _latest_end_for_the_dead(self, grant: GrantFacts) -> float:
        if grant.claimants_died_at is None:
            return math.inf
        config = self._context.config
        noticed_s = config.orphan_grace_s + 3 * config.probe_interval_s
        return max(grant.claimants_died_at, self._calm(grant)) + noticed_s + self._steps_s(grant) + QUICK_S

    def _was_let_go(self, grant: GrantFacts) -> bool:
        """Tells whether all that wanted the lease live, have let go of it, and had the time and the means to say so."""
        if not grant.let_go or grant.abandoned:
            return False
        name, recovery_s = grant.engine.name, self._promises.recovery_s
        heard = [self._trouble.calm_since(name, consumer, recovery_s, at) for consumer, at in grant.let_go.items()]
        agents = [self._engines[name].agent for name in (name, *grant.let_go)]
        said_by = max(*heard, self._calm(grant)) + TIMING.sibling_linger_s + 2 * QUICK_S
        return self._context.agenda.now > said_by and all(agent.died_at is None for agent in agents)

    def _calm(self, grant: GrantFacts) -> float:
        """The time since when the lease's producer has been able to do something about it."""
        return max(self._trouble.calm_since_at(grant.engine.name), grant.engine.long_until)

    def _steps_s(self, grant: GrantFacts) -> float:
        return max(STEPS * self._context.plan.step_s, grant.engine.step_until - self._context.agenda.now)

    # -- in the end ----------------------------------------------------------------------------------------------

    def check_nothing_is_held(self) -> None:
        """Check that every block is free when nobody wants anything any more; what has lapsed may stay (L3)."""
        for engine in self._engines.values():
            prefill, blocks = engine.prefill, self._context.plan.blocks
            if prefill.has_work or prefill.side.blocks.held_leases:
                raise Violation("L3", f"{engine.name} keeps {prefill.side.blocks.held_leases} leases")
            if prefill.pool.free != blocks:
                raise Violation("L3", f"{engine.name} has {prefill.pool.free} of {blocks} blocks free")

    def check_nothing_is_left(self) -> None:
        """Check that nothing is left of any lease some time after the caches were reset (L3)."""
        for engine in self._engines.values():
            side = engine.prefill.side
            armed = [w.leases.table.word(i) for w in engine.prefill_workers for i in range(side.slots.count)]
            if len(side.slots) or side.blocks.lapsed_leases or side.blocks.held_leases or any(armed):
                raise Violation("L3", f"{engine.name} keeps {len(side.slots)} slots, {sum(map(bool, armed))} words")
            if engine.agent.died_at is None and engine.agent.peer.lessor.leases:
                raise Violation("L3", f"{engine.name}'s lessor keeps {len(engine.agent.peer.lessor.leases)} leases")

    def check_nobody_is_known(self) -> None:
        """Check that sessions and connections are no more when nobody has wanted anything for long (L3)."""
        for engine in self._engines.values():
            if engine.agent.died_at is None:
                lessor_is_empty(engine.agent.peer.lessor.snapshot())
                lessee_is_empty(engine.agent.peer.lessee.snapshot())
                if engine.transport.connected:
                    raise Violation("L3", f"{engine.name} keeps connections to {engine.transport.connected}")
