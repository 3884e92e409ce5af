"""An engine of a run: the product's agent and its part of an engine, with a simulated scheduler and simulated workers.

As in vLLM, a step begins in the scheduler, is carried out by the workers, each in its own time, and ends in the
scheduler when all of them are through. Time passes between the parts of a worker's step. An agent takes its turns
beside that. Every engine is producer and consumer.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from kvlease.agent.core import AgentCore
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.errors import CardUnavailable
from kvlease.protocol import TIMING, Endpoint, LeaseCard, LeaseConfig, WorkerFence
from kvlease.protocol.messages import VERSION
from proof.simulate.cards import SimCards
from proof.simulate.clock import DriftingClock
from proof.simulate.context import Context
from proof.simulate.decode import DecodeScheduler, DecodeWorker
from proof.simulate.network import SimTransport
from proof.simulate.pool import SimPool
from proof.simulate.prefill import PrefillScheduler
from proof.simulate.prefill_worker import PrefillWorker
from proof.simulate.requests import Decode, Prefill, StepWork

PORT = 5600
INTERRUPTED = 0.25
"""The share of turns that are interrupted, of those in which messages have arrived."""
INTERRUPTION = 0.5
"""The longest interruption of a turn, as a share of the time between turns."""


class SimEngine:
    """One incarnation of the engine `name`, from its start to its end."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self.name = name
        self.life = context.chance.of(f"life of {name}")
        self._pace = context.chance.of(f"pace of {name}")
        self.incarnation = self.life.getrandbits(64)
        self.engine_id = name if context.names_stay else f"{name}-{self.incarnation:x}"
        self.started_at = context.agenda.now
        self.alive = True
        self.frozen_until = float("-inf")
        self.frozen_s = 0.0
        """The time for which the engine was stopped so far, in seconds."""
        self.turn_s = context.plan.turn_s
        self.step_until = float("-inf")
        self.step_began = float("-inf")
        self.long_until = float("-inf")
        """The earliest end of the next step, where a fault makes it a long one."""
        self.paused_at: float | None = None
        self._pauses = 0
        self._stepping = False
        self._steps_under_way = 0
        self.clock = DriftingClock(context.agenda, self.life.uniform(0.0, 1e5))
        self.transport = SimTransport(context.network, self.incarnation, self.life)
        self.transport.interrupt = self._interrupt
        context.network.join(self.incarnation, name)
        self.config: LeaseConfig = context.config
        self.agent = AgentCore(
            self.config,
            self.engine_id,
            lambda _: self.transport,
            SimCards(context.cards, name),
            incarnation=self.incarnation,
            clock=self.clock,
        )
        workers = context.plan.producer_workers if name in context.plan.producers else 0
        readers = context.plan.consumer_workers if name in context.plan.consumers else 0
        self.agent.wake_by(self.wake)
        pool = SimPool(
            context.plan.blocks,
            lambda block: context.observer.gives(name, block),
            lambda block: context.safety.given(self.incarnation, block),
            self.life if context.plan.any_order else None,
        )
        producer = ProducerSide(
            self.config, self.agent, pool, workers, draw=lambda: self.life.getrandbits(64) | 1, clock=self.clock
        )
        consumer = ConsumerSide(self.agent)
        self.leases = LeaseScheduler(self.agent, producer, consumer)
        self.prefill = PrefillScheduler(self, context, producer, pool)
        self.decode = DecodeScheduler(self, context, consumer)
        self.prefill_workers = [PrefillWorker(self, context, rank) for rank in range(workers)]
        self.prefill.open([worker.leases.table for worker in self.prefill_workers])
        self.decode_workers = [DecodeWorker(self, context, rank) for rank in range(readers)]
        self.later(self._pace.random() * self.turn_s, self._turn)

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.alive and self._context.agenda.now >= self.frozen_until

    def later(self, delay_s: float, happen: Callable[[], None]) -> None:
        """Let this engine do something: never once it is dead, and not before it is continued when it is stopped."""

        def unless_stopped() -> None:
            if not self.alive:
                return
            if self._context.agenda.now < self.frozen_until:
                self._context.agenda.at(self.frozen_until, unless_stopped)
            else:
                happen()

        self._context.agenda.after(delay_s, unless_stopped)

    def card(self) -> LeaseCard | None:
        """The card that its side channel serves; None where it is no producer."""
        if not self.prefill_workers:
            return None
        fences = [WorkerFence(0, worker.rank, *worker.leases.table.address) for worker in self.prefill_workers]
        return LeaseCard([VERSION], self.incarnation, self.agent.address, fences)

    def end(self, death_shows: bool) -> None:
        """End the process, by whatever cause; others notice it where `death_shows`."""
        self.alive = False
        for worker in self.prefill_workers:
            worker.end(death_shows)
        for reader in self.decode_workers:
            reader.data_agent.alive = False
        self._context.safety.producer_ends(self.incarnation)
        self._context.network.leave(self.incarnation, death_shows)

    def shut_down(self) -> None:
        """Shut down in good order: close the fence words, then say Bye to all peers."""
        for worker in self.prefill_workers:
            worker.leases.close()
        if self.agent.died_at is None:
            self.agent.say_bye()
        self.end(death_shows=True)

    # -- the agent -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        if self.agent.died_at is not None:
            return
        known = len(self.agent.peer.lessee.sessions)
        # A session that is given up before it was open sends nothing: only the number of sessions shows it.
        happened = self.agent.turn(self.clock())
        if not self.alive or self.agent.died_at is not None:
            return
        if happened or len(self.agent.peer.lessee.sessions) != known:
            self._context.observer.took_a_turn(self.name)
        self.later(self.turn_s * self._pace.uniform(0.7, 1.0), self._turn)

    def _interrupt(self) -> None:
        """Let time pass in the middle of a turn, now and then: the engine's own thread goes on meanwhile."""
        if self._pace.random() < INTERRUPTED:
            longest_s = INTERRUPTION * self.turn_s
            self._context.agenda.run_until(self._context.agenda.now + longest_s * self._pace.random())

    def kill_agent(self) -> None:
        """End the agent as a bug in its thread would; the engine lives on."""
        if self.agent.died_at is None:
            self.agent.die()
            self.transport.close()
            self._context.network.leave(self.incarnation, death_shows=True)

    # -- steps ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Begin a step, as there is work; this changes nothing where the engine makes steps already."""
        if not self._stepping:
            self._stepping = True
            self.later(0.0, self._begin_step)

    def add_prefill(self, prefill: Prefill) -> None:
        """Take a user's request for a prefill."""
        self.prefill.add(prefill)

    def add_decode(self, decode: Decode) -> None:
        """Take a user's request for an answer."""
        self.decode.add(decode, self.paused_at is not None)

    def fetch_card(self, endpoint: Endpoint) -> "Future[LeaseCard]":
        """Ask for a card on behalf of a worker; the future may raise `CardUnavailable`."""
        future: Future[LeaseCard] = Future()

        def answer(card: LeaseCard | None) -> None:
            if card is None:
                future.set_exception(CardUnavailable(f"nobody at {endpoint}"))
            else:
                future.set_result(card)

        self._context.cards.ask(self.name, endpoint, answer)
        return future

    def pause(self) -> None:
        """Pause as vLLM's `/pause?mode=keep` does; pauses may overlap."""
        self._pauses += 1
        if self.paused_at is None:
            self.paused_at = self._context.agenda.now

    def resume(self) -> None:
        """End one `pause`."""
        self._pauses -= 1
        if not self._pauses:
            self.paused_at = None
            self.wake()

    @property
    def stands_still(self) -> tuple[float, float] | None:
        """The time since when it makes no step, and for how long it may renew all the same (s); None while it steps."""
        now = self._context.agenda.now
        if now < self.step_until:
            return self.step_began, self.config.stall_limit_s
        if self.paused_at is not None and not self._stepping:
            return max(self.paused_at, self.step_until), TIMING.paused_after_s
        return None

    @property
    def _has_work(self) -> bool:
        if self.agent.wants_step or self.prefill.side.holds_by_order:
            return True
        if self.paused_at is not None:
            return False
        return self.prefill.has_work or self.decode.has_work

    def _begin_step(self) -> None:
        if not self._has_work:
            # Where steps overlap, the step under way begins the next one at its end.
            self._stepping = self._steps_under_way > 0
            return
        if self._steps_under_way > self._context.plan.overlap:
            return
        now = self._context.agenda.now
        # The workers may still be at the step before.
        begin_s = max(self.step_until - now, 0.0)
        length_s = max(self._context.plan.step_s, self.long_until - now - begin_s)
        self.step_began, self.step_until = now + begin_s, now + begin_s + length_s
        self._steps_under_way += 1
        paused = self.paused_at is not None
        work, begun = self.prefill.schedule(paused), self.decode.schedule(paused)
        orders = self.leases.begin_step(list(begun))
        if orders is not None:
            self._context.observer.begins_to_read(self.name, orders.reads)
        for worker in self.prefill_workers:
            self._in_step(begin_s, length_s, worker.parts(orders))
            self.later(begin_s + length_s * self._pace.uniform(0.0, 0.9), partial(worker.write, work))
        for reader in self.decode_workers:
            self._in_step(begin_s, length_s, reader.parts(orders, begun))
            self.later(begin_s + length_s * self._pace.uniform(0.5, 1.0), reader.finish)
        self.later(begin_s + length_s, partial(self._end_step, work))
        if self._context.plan.overlap and self._steps_under_way < 2:
            self.later(begin_s + length_s * self._pace.uniform(0.0, 0.9), self._begin_step)

    def _in_step(self, begin_s: float, length_s: float, parts: list[Callable[[], None]]) -> None:
        """Call a worker's parts of a step, each at a moment of its own in the first half of the step."""
        moments = sorted(self._pace.uniform(0.0, 0.5) for _ in parts)
        for moment, part in zip(moments, parts, strict=True):
            self.later(begin_s + length_s * moment, part)

    def _end_step(self, work: StepWork) -> None:
        self._steps_under_way -= 1
        self.prefill.finish(work)
        reports = [reader.take_report() for reader in self.decode_workers]
        through = self.decode.count(reports)
        for reader in self.decode_workers:
            self.leases.hear((), reader.leases.take_report())
        failed = [request_id for report in reports for request_id in report.failed]
        self.leases.hear([decode.request_id for decode in through], None, failed)
        for decode in through:
            contents = [found for reader in self.decode_workers for found in reader.contents.pop(decode.request_id, [])]
            self.decode.load(decode, contents)
        for worker in self.prefill_workers:
            # vLLM adds the reports of all workers up before it hands them over; one by one is the same.
            self.leases.hear((), worker.take_report())
        self.prefill.notice_free_slots()
        self.leases.end_step()
        self._begin_step()
