"""All of kvlease in the process of an engine's scheduler; the hooks in `kvlease.vllm.scheduler` call it."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvlease.admin.core import AdminCore
from kvlease.admin.exposition import page
from kvlease.admin.figures import EngineFigures
from kvlease.admin.health import EngineProfile
from kvlease.admin.listener import AdminListener
from kvlease.admin.settings import ListenSettings
from kvlease.agent.loop import LeaseAgent
from kvlease.agent.nixl import NixlTransport
from kvlease.engine.consumer import ConsumerSide
from kvlease.engine.known_fences import Rank
from kvlease.engine.own_fences import OrderedFences, OwnFences, SharedFences
from kvlease.engine.producer import ProducerSide
from kvlease.engine.scheduler import LeaseScheduler
from kvlease.events.recorder import FactRecorder
from kvlease.fence import FenceTable, MappedWords, NotShared
from kvlease.metrics.observed import ObservedTimes
from kvlease.protocol import LeaseCard, LeaseConfig, WorkerFence
from kvlease.protocol.facts import Fact, Tell
from kvlease.protocol.messages import VERSION
from kvlease.vllm.compat import KVConnectorHandshakeMetadata, NixlHandshakePayload, nixl_package
from kvlease.vllm.envelope import CARD_RANK
from kvlease.vllm.idle import IdleEngine
from kvlease.vllm.metadata import LeasedHandshakePayload
from kvlease.vllm.metrics import SchedulerStatsFeed, note_workers
from kvlease.vllm.pool import VllmPool
from kvlease.vllm.requests import LeasedRequests
from kvlease.vllm.side_channel import SideChannelCards, wrap_card

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.block_pool import BlockPool

logger = logging.getLogger(__name__)


def open_agent(
    vllm_config: "VllmConfig",
    config: LeaseConfig,
    engine_id: str,
    times: ObservedTimes,
    incarnation: int | None = None,
    watch: FactRecorder | None = None,
) -> LeaseAgent:
    """Makes the lease agent of an engine, which is still to be started. `times` hears what it does, and so does
    `watch`."""
    backends = vllm_config.kv_transfer_config.get_from_extra_config("backends", ["UCX"])
    package = nixl_package()
    return LeaseAgent(
        config,
        engine_id,
        lambda own: NixlTransport(own, backends, package),
        SideChannelCards(),
        incarnation=incarnation,
        tell=times.hear if watch is None else _both(times.hear, watch.hear),
        late=times.late,
    )


def _both(first: Tell, second: Tell) -> Tell:
    def tell(fact: Fact) -> None:
        first(fact)
        second(fact)

    return tell


class SchedulerLeases:
    """The leases of one engine, in its scheduler's process.

    Attributes: `agent`, which its maker starts. `requests`: the decisions on each request. `step`: the lease's part of
    a step. `figures`: all figures of the engine. `stats`: those for vLLM's /metrics. `counts`: events that this half
    counts itself, `refused.<kind>`. `admin`: what answers operators, once doors are open.
    """

    def __init__(
        self,
        agent: LeaseAgent,
        config: LeaseConfig,
        workers: int,
        groups: int | None,
        drains: bool,
        *,
        times: ObservedTimes | None = None,
        block_bytes: int = 0,
        watch: FactRecorder | None = None,
    ) -> None:
        """`workers`: those of this engine. `groups`: its KV cache groups; None for an engine that reads from other
        groupings as well. `drains`: at its end it waits for requests under way (`--shutdown-timeout`). `times`: those
        that `agent` tells. `block_bytes`: the memory of a KV cache block in one worker. `watch` hears facts."""
        tell = None if watch is None else watch.hear
        self._blocks = VllmPool()
        producer = ProducerSide(config, agent, self._blocks, workers, tell=tell)
        consumer = ConsumerSide(agent, config.compare_media, tell)
        self._idle = IdleEngine()
        if self._idle.can_wake:
            agent.wake_by(self._idle.wake)
        self._drains = drains
        self._watch = watch
        self._config = config
        self._listener: AdminListener | None = None
        self.admin: AdminCore | None = None
        self.agent = agent
        self.step = LeaseScheduler(agent, producer, consumer)
        self.requests = LeasedRequests(producer, consumer, groups, tell)
        self.counts: Counter[str] = self.requests.counts
        self.figures = EngineFigures(
            agent, producer, consumer, times or ObservedTimes(), self.counts, block_bytes * workers
        )
        self.stats = SchedulerStatsFeed(agent, producer, consumer, self.figures)

    def open_doors(self, rank: int, engine_id: str, listen: ListenSettings | None, labels: Mapping[str, str]) -> None:
        """Lets operators in: by the engine core's utility call and, where `listen` says so, by an own listener.

        `labels` stand on every series of its /metrics. Raises `ConfigError` where it cannot listen.
        """
        profile = EngineProfile(rank, engine_id, self._config, self.figures.block_bytes, lambda: self._blocks.total)
        self.admin = AdminCore(self.agent, self.step.producer, self.figures.unheard, profile)
        self._idle.answer_by(self.admin.answer)
        if listen is not None:
            self._listener = AdminListener(self.admin, listen, lambda: page(self.figures, labels))
            self._listener.start()
            logger.info("kvlease: the agent listens for its operator on %s, port %d", listen.host, listen.port)

    def close(self) -> None:
        """The engine shuts down. Its operator is answered until the agent has said Bye."""
        self.agent.close()
        if self._listener is not None:
            self._listener.stop()
        if self._watch is not None:
            self._watch.close()

    def bind(self, pool: "BlockPool") -> None:
        """vLLM hands its block pool over."""
        self._blocks.bind(pool, self._reset)

    def _reset(self, in_use: int) -> None:
        """vLLM is about to reset its prefix cache. If requests use blocks it will not, and the leases live on."""
        if in_use == self.step.producer.blocks.distinct_held:
            self.reset()

    def reset(self) -> None:
        """Ends all leases: what was computed must not be read any more."""
        self.step.producer.reset()
        self.agent.ask_for_step()

    @property
    def wants_step(self) -> bool:
        """Tells whether the engine is to make a step although it has nothing to compute."""
        producer = self.step.producer
        if self.agent.wants_step or producer.holds_by_order:
            return True
        # An engine that drains at its end is to hear until all is read; one that cannot be woken hears only in steps.
        waits = self._drains if self._idle.shuts_down else not self._idle.can_wake
        return waits and producer.blocks.held_leases > 0

    def note_workers(self, stats: Any) -> None:
        """Notes the figures that the workers of this engine tell vLLM in this step."""
        note_workers(self.figures.workers, stats)

    def frees_blocks(self) -> bool:
        """Gives back what is held and over. Tells whether more blocks are free since."""
        if not self._blocks.is_bound:
            return False
        free = self._blocks.free
        self.step.producer.hear_news()
        return self._blocks.free > free

    def serve(self, metadata: Mapping[Rank, KVConnectorHandshakeMetadata]) -> dict[Rank, NixlHandshakePayload]:
        """Returns what a stock engine serves, by worker rank, and the lease card if the workers have fences.

        `metadata`: their `LeasedHandshakePayload`s.
        """
        served: dict[Rank, NixlHandshakePayload] = {}
        fences: list[WorkerFence] = []
        payloads: list[LeasedHandshakePayload] = []
        for rank, payload in metadata.items():
            assert isinstance(payload, LeasedHandshakePayload)
            served[rank] = payload.as_stock()
            if payload.fence_slots:
                payloads.append(payload)
                fences.append(WorkerFence(*rank, payload.fence_base, payload.fence_slots))
        if fences and self._blocks.is_bound:
            served[CARD_RANK] = wrap_card(self.open(fences, _own_fences(payloads, self.step.producer.workers)))
        return served

    def open(self, fences: list[WorkerFence], own: OwnFences) -> LeaseCard:
        """The workers have these fence tables: leases can be granted from now on. Returns the card that says so.

        `own`: the words in the tables.
        """
        self.step.producer.open(min(fence.slots for fence in fences), own)
        by_rank = sorted(fences, key=lambda fence: (fence.pp_rank, fence.tp_rank))
        return LeaseCard([VERSION], self.agent.incarnation, self.agent.address, by_rank)


def _own_fences(payloads: Sequence[LeasedHandshakePayload], workers: int) -> OwnFences:
    """Returns the workers' words, which this process writes itself where it shares memory with all of them."""
    tables = []
    for payload in payloads:
        try:
            tables.append(FenceTable(MappedWords(payload.fence_place, payload.fence_slots)))
        except NotShared as e:
            logger.warning(
                "kvlease: workers clear the fence's words by order, in memory that this process cannot map, so nothing "
                "is read late: %s",
                e,
            )
            return OrderedFences(workers)
    return SharedFences(tables)
