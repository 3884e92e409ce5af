"""An engine of a run: the product's agent and roles around a scheduler and workers that are simulated.

As in vLLM, a step begins in the scheduler, is carried out by the workers, each in its own time, and ends in the
scheduler when all of them are through. An agent takes its turns beside that. Every engine has both roles.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from kvlease.agent.core import AgentCore
from kvlease.protocol import LeaseCard, LeaseConfig, WorkerFence
from kvlease.protocol.lessee import PAUSED_AFTER_S
from kvlease.protocol.messages import VERSION
from kvlease.sim.cards import SimCards
from kvlease.sim.clock import DriftingClock
from kvlease.sim.decode import DecodeScheduler, DecodeWorker
from kvlease.sim.network import SimTransport
from kvlease.sim.prefill import PrefillScheduler, PrefillWorker, Work

if TYPE_CHECKING:
    from kvlease.sim.world import World

PORT = 5600


class SimEngine:
    """One incarnation of the engine `name`, from its start to its end."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.life = world.chance.of(f"life of {name}")
        self._pace = world.chance.of(f"pace of {name}")
        self.incarnation = self.life.getrandbits(64)
        self.engine_id = name if world.names_stay else f"{name}-{self.incarnation:x}"
        self.started_at = world.agenda.now
        self.alive = True
        self.frozen_until = float("-inf")
        self.turn_s = world.plan.turn_s
        self.step_until = float("-inf")
        self.step_began = float("-inf")
        self.long_until = float("-inf")
        """What a fault makes of the next step: it does not end before."""
        self.paused_at: float | None = None
        self._pauses = 0
        self.clock = DriftingClock(world.agenda, self.life.uniform(0.0, 1e5))
        self.transport = SimTransport(world.network, self.incarnation, self.life)
        self._stepping = False
        self._steps_under_way = 0
        self.frozen_s = 0.0
        """How long it was stopped, all in all."""
        world.network.join(self.incarnation, name)
        self.config: LeaseConfig = world.config
        self.agent = AgentCore(
            self.config,
            self.engine_id,
            lambda _: self.transport,
            SimCards(world.cards, name),
            incarnation=self.incarnation,
            clock=self.clock,
        )
        self.prefill = PrefillScheduler(self, world.plan.producer_workers if name in world.plan.producers else 0)
        self.decode = DecodeScheduler(self)
        self.prefill_workers = [PrefillWorker(self, rank) for rank in range(self.prefill.workers)]
        ranks = world.plan.consumer_workers if name in world.plan.consumers else 0
        self.decode_workers = [DecodeWorker(self, rank) for rank in range(ranks)]
        self.later(self._pace.random() * self.turn_s, self._turn)

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.alive and self.world.agenda.now >= self.frozen_until

    def later(self, delay_s: float, happen: Callable[[], None]) -> None:
        """Let this engine do something: never once it is dead, and not before it is continued when it is stopped."""

        def unless_stopped() -> None:
            if not self.alive:
                return
            if self.world.agenda.now < self.frozen_until:
                self.world.agenda.at(self.frozen_until, unless_stopped)
            else:
                happen()

        self.world.agenda.after(delay_s, unless_stopped)

    def card(self) -> LeaseCard | None:
        """What its side channel serves; None where it is no producer."""
        if not self.prefill_workers:
            return None
        fences = [WorkerFence(0, worker.rank, *worker.table.address) for worker in self.prefill_workers]
        return LeaseCard([VERSION], self.incarnation, self.agent.address, fences)

    def end(self, death_shows: bool) -> None:
        """The process is gone, by whatever cause."""
        self.alive = False
        for worker in self.prefill_workers:
            worker.end(death_shows)
        for reader in self.decode_workers:
            reader.data_agent.alive = False
        self.world.safety.producer_ends(self.incarnation)
        self.world.network.leave(self.incarnation, death_shows)

    def shut_down(self) -> None:
        """In good order: words first, then Bye to all peers."""
        for worker in self.prefill_workers:
            worker.table.close()
        if self.agent.died_at is None:
            self.agent.say_bye()
        self.end(death_shows=True)

    # -- the agent -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self.agent.died_at is not None:
            return
        known = len(self.agent._lessee.sessions)
        # A session that is given up before it was open says nothing to anybody.
        if self.agent.step(self.clock()) or len(self.agent._lessee.sessions) != known:
            self.world.promises.agent_took_a_turn(self)
        self.later(self.turn_s * self._pace.uniform(0.7, 1.0), self._turn)

    def kill_agent(self) -> None:
        """As when its thread dies of a bug: the engine lives on."""
        if self.agent.died_at is None:
            self.agent.died_at = self.clock()
            self.agent._actions.clear()
            self.transport.close()
            self.world.network.leave(self.incarnation, death_shows=True)

    # -- steps ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There is work; a no-op where the engine is stepping anyway."""
        if not self._stepping:
            self._stepping = True
            self.later(0.0, self._begin_step)

    def pause(self) -> None:
        """As vLLM's `/pause?mode=keep`. Pauses may overlap."""
        self._pauses += 1
        if self.paused_at is None:
            self.paused_at = self.world.agenda.now

    def resume(self) -> None:
        """The end of one `pause`."""
        self._pauses -= 1
        if not self._pauses:
            self.paused_at = None
            self.wake()

    @property
    def stands_still(self) -> tuple[float, float] | None:
        """Since when it makes no step, and for how long it may renew all the same; None for one that makes steps."""
        now = self.world.agenda.now
        if now < self.step_until:
            return self.step_began, self.config.stall_limit_s
        if self.paused_at is not None and not self._stepping:
            return max(self.paused_at, self.step_until), PAUSED_AFTER_S
        return None

    @property
    def _has_work(self) -> bool:
        if self.paused_at is not None:
            return self.prefill.has_leases
        return self.prefill.has_work or self.decode.has_work

    def _begin_step(self) -> None:
        if not self._has_work:
            # Where steps overlap, the end of the one under way looks again.
            self._stepping = self._steps_under_way > 0
            return
        if self._steps_under_way > self.world.plan.overlap:
            return
        now = self.world.agenda.now
        # The workers may still be at the step before.
        begin_s = max(self.step_until - now, 0.0)
        length_s = max(self.world.plan.step_s, self.long_until - now - begin_s)
        self.step_began, self.step_until = now + begin_s, now + begin_s + length_s
        self._steps_under_way += 1
        self.agent.progress()
        words, work = self.prefill.begin_step()
        reads = self.decode.begin_step()
        for worker in self.prefill_workers:
            self.later(begin_s + length_s * self._pace.uniform(0.0, 0.4), partial(worker.begin, words, work))
        for reader in self.decode_workers:
            self.later(begin_s + length_s * self._pace.uniform(0.0, 0.4), partial(reader.begin, reads))
            self.later(begin_s + length_s * self._pace.uniform(0.5, 1.0), reader.finish)
        self.later(begin_s + length_s, partial(self._end_step, work))
        if self.world.plan.overlap and self._steps_under_way < 2:
            self.later(begin_s + length_s * self._pace.uniform(0.0, 0.9), self._begin_step)

    def _end_step(self, work: Work) -> None:
        self._steps_under_way -= 1
        self.agent.step_ended()
        self.prefill.end_step(work, [worker.take_report() for worker in self.prefill_workers])
        self.decode.end_step([reader.take_report() for reader in self.decode_workers])
        self._begin_step()
