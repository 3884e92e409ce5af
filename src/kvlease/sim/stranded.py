"""No block stays where nobody wants it: L1 and R25 while a run goes on, L3 when it is over."""

import math
from typing import TYPE_CHECKING

from kvlease.protocol.lessee import SIBLING_LINGER_S
from kvlease.sim.facts import Facts, Grant
from kvlease.sim.promises import QUICK_S, STEPS
from kvlease.sim.safety import Violation
from kvlease.sim.structure import lessee_is_empty, lessor_is_empty

if TYPE_CHECKING:
    from kvlease.sim.world import World


class Stranded:
    """Looks for what is held too long."""

    def __init__(self, world: "World", facts: Facts) -> None:
        self._world = world
        self._facts = facts
        self._promises = world.promises
        self._trouble = world.promises.trouble
        self._slack_s = STEPS * world.plan.step_s + QUICK_S

    def check(self) -> None:
        """L1: what nobody wants is free within its deadline, a tick and a step. To be called now and then."""
        freed = self._world.safety.leases
        wanted = {wish.token for wish in self._facts.wishes.values()}
        for token, grant in list(self._facts.grants.items()):
            if freed[token].freed:
                del self._facts.grants[token]
                continue
            self._judge_age(token, grant)
            if token in wanted:
                grant.wanted_at, grant.claimants_died_at = self._world.agenda.now, None
            else:
                self._judge_held(token, grant)

    def _judge_age(self, token: int, grant: Grant) -> None:
        """R25: no lease lives longer than its maximum age, renewed or not."""
        config, now = self._world.config, self._world.agenda.now
        if not grant.engine.running:
            return
        if now > max(grant.at, self._calm(grant)) + config.max_age_s * 1.02 + self._slack_s:
            raise Violation(
                "R25", f"{token:016x} was granted at {grant.at:.3f} and is held: max age {config.max_age_s:g} s"
            )
        self._judge_wedged(token, grant)

    def _judge_wedged(self, token: int, grant: Grant) -> None:
        """R25: nor for an engine that makes no steps, in the middle of one or paused."""
        config, now = self._world.config, self._world.agenda.now
        lease = grant.engine.agent._lessor.leases.get(token)
        claimants = [self._facts.engine(claimant) for claimant in lease.claims] if lease is not None else []
        wedged = [(c.name, still) for c in claimants if c is not None and c.running and (still := c.stands_still)]
        if not claimants or len(wedged) < len(claimants):
            return
        # What is wrong with the wedged engine itself is no excuse.
        renewed_until = [
            max(since, self._trouble.calm_between(grant.engine.name, name)) + may_s * 1.02
            for name, (since, may_s) in wedged
        ]
        longest_s = (config.extension_s + config.renew_interval_s) * 1.02
        if now > max(*renewed_until, grant.at + config.duration_s, self._calm(grant)) + longest_s + self._slack_s:
            name, (since, _) = wedged[0]
            raise Violation("R25", f"{token:016x} is held for {name}, which stands still since {since:.3f}")

    def _judge_held(self, token: int, grant: Grant) -> None:
        """Nobody wants it: it is over by its own deadline, sooner where that was said or a death noticed."""
        if not grant.engine.running:
            return
        name, now = grant.engine.name, self._world.agenda.now
        if now > self._latest_end(grant):
            raise Violation("L1", f"{token:016x} holds blocks of {name}, unwanted since {grant.wanted_at:.3f}")
        if token not in self._promises.settled.causes and self._was_let_go(grant):
            raise Violation("L1", f"{token:016x} is held, and {', '.join(grant.let_go)} let go of it")
        if now > self._latest_end_for_the_dead(grant):
            raise Violation("L1", f"{token:016x} holds blocks of {name} for the dead")

    def _latest_end(self, grant: Grant) -> float:
        config = self._world.config
        longest_s = max(config.duration_s, config.extension_s, config.orphan_grace_s) * 1.02
        unwanted_since = max(grant.wanted_at, grant.at, self._calm(grant))
        return unwanted_since + longest_s + SIBLING_LINGER_S + self._promises.recovery_s + self._steps_s(grant)

    def _latest_end_for_the_dead(self, grant: Grant) -> float:
        if grant.claimants_died_at is None:
            return math.inf
        config = self._world.config
        noticed_s = config.orphan_grace_s + 3 * config.probe_interval_s
        return max(grant.claimants_died_at, self._calm(grant)) + noticed_s + self._steps_s(grant) + QUICK_S

    def _was_let_go(self, grant: Grant) -> bool:
        """All that wanted it live, have let go of it, and had the time and the means to say so."""
        if not grant.let_go or grant.abandoned:
            return False
        name, recovery_s = grant.engine.name, self._promises.recovery_s
        heard = [self._trouble.calm_since(name, consumer, recovery_s, at) for consumer, at in grant.let_go.items()]
        agents = [self._world.engines[name].agent for name in (name, *grant.let_go)]
        said_by = max(*heard, self._calm(grant)) + SIBLING_LINGER_S + 2 * QUICK_S
        return self._world.agenda.now > said_by and all(agent.died_at is None for agent in agents)

    def _calm(self, grant: Grant) -> float:
        """Since when its producer has been able to do something about it."""
        return max(self._trouble.calm_since_at(grant.engine.name), grant.engine.long_until)

    def _steps_s(self, grant: Grant) -> float:
        return max(STEPS * self._world.plan.step_s, grant.engine.step_until - self._world.agenda.now)

    # -- in the end ----------------------------------------------------------------------------------------------

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

    def check_nobody_is_known(self) -> None:
        """L3: when nobody has wanted anything for long, sessions and connections are no more."""
        for engine in self._world.engines.values():
            if engine.agent.died_at is None:
                lessor_is_empty(engine.agent._lessor)
                lessee_is_empty(engine.agent._lessee)
                if engine.transport.connected:
                    raise Violation("L3", f"{engine.name} keeps connections to {engine.transport.connected}")
