"""The state of an engine as a whole, as `GET health` tells it."""

from collections.abc import Callable
from dataclasses import dataclass

from kvlease import __version__
from kvlease.admin.answers import EngineHealth, HeldLeases, Holding, LeaseSettings, SessionCounts, Unheard
from kvlease.admin.listing import displayed, seconds
from kvlease.admin.unheard import HeldSize, UnheardSizes
from kvlease.agent.core import AgentCore
from kvlease.engine.producer import ProducerSide
from kvlease.protocol import LeaseConfig, Peer


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """An engine as it is from its start to its end, but for its pool, which comes late."""

    rank: int
    """The data-parallel rank."""
    engine_id: str
    config: LeaseConfig
    block_bytes: int
    """The memory of a KV cache block on all workers together."""
    pool_blocks: Callable[[], int]
    """Returns the number of blocks in the pool; 0 while there is none."""


def health_of(
    peer: Peer,
    agent: AgentCore,
    producer: ProducerSide,
    unheard: UnheardSizes,
    profile: EngineProfile,
    uptime_s: float,
) -> EngineHealth:
    """Returns the state of an engine. It is a question to the agent (`AgentCore.ask`).

    Its sizes are the scheduler's, numbers that are read one by one: they may be a lease apart.
    """
    blocks, lessor = producer.blocks, peer.lessor
    return EngineHealth(
        rank=profile.rank,
        engine_id=displayed(profile.engine_id),
        incarnation=f"{agent.incarnation:016x}",
        version=__version__,
        agent="up" if agent.died_at is None else "dead",
        draining=producer.draining,
        uptime_s=seconds(uptime_s),
        settings=_settings(profile.config, producer.slots.count),
        held=HeldLeases(
            blocks.held_leases,
            blocks.held_tokens,
            blocks.held_blocks,
            blocks.held_blocks * profile.block_bytes,
            lessor.claimed,
        ),
        lapsed=Holding(
            blocks.lapsed_leases, blocks.lapsed_tokens, blocks.lapsed_blocks, blocks.lapsed_blocks * profile.block_bytes
        ),
        unheard=Unheard(_holding(unheard.dead, profile.block_bytes), _holding(unheard.silent, profile.block_bytes)),
        pool_blocks=profile.pool_blocks(),
        sessions=SessionCounts(len(lessor.sessions), len(peer.lessee.sessions)),
    )


def _settings(config: LeaseConfig, slots: int) -> LeaseSettings:
    return LeaseSettings(
        config.duration_s,
        config.extension_s,
        config.renew_interval_s,
        config.orphan_grace_s,
        config.max_age_s,
        config.stall_limit_s,
        config.probe_interval_s,
        slots,
    )


def _holding(size: HeldSize, block_bytes: int) -> Holding:
    return Holding(size.leases, size.tokens, size.blocks, size.blocks * block_bytes)
