"""One scene for real engines and for the simulation: a D with a queue is killed. This part needs no engine."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from kvlease.fleet.play import play
from kvlease.fleet.policies import Kvlease, Policy, Stock
from kvlease.fleet.settings import Crash, Fleet, FleetFaults
from kvlease.fleet.traffic.arrival import Arrival
from proof.realengines.spec import Connector

SEED = 1
_NEVER_S = 1000.0
"""The time after which the dead D would come back: longer than the scene."""


@dataclass(frozen=True)
class CrashScene:
    """Requests come at equal intervals, faster than D answers; after the last one D is killed, and nobody takes its
    place."""

    requests: int = 30
    load: float = 1.6
    """The rate of requests, in multiples of D's own: so its queue is as long on a slow machine as on a fast one."""
    prompt_tokens: int = 512
    answer_tokens: int = 96
    seats: int = 2
    """The requests that D decodes at a time."""
    producer_blocks: int = 600
    decoder_blocks: int = 52
    """D's blocks: room for the seats and not for one prompt more, so that the others wait with their blocks on P."""
    block_tokens: int = 32
    max_model_len: int = 1024
    lease_s: int = 6

    @property
    def prompt_blocks(self) -> int:
        return -(-self.prompt_tokens // self.block_tokens)


@dataclass(frozen=True)
class Speed:
    """The speed of the engines that the simulation has to be told, in seconds; measured before the scene is played."""

    prefill_s: float
    """The time of one prompt on P."""
    answer_s: float
    """The time of as many answers as D has seats, while others wait for the seats."""

    def every_s(self, scene: CrashScene) -> float:
        """The time between two requests."""
        return self.answer_s / scene.seats / scene.load

    def kill_at_s(self, scene: CrashScene) -> float:
        """The time of the kill: one interval and a second after the last request, which has been prefilled by then."""
        return scene.requests * self.every_s(scene) + 1.0


@dataclass(frozen=True)
class CrashSeen:
    """The outcome of the scene, on engines or in the simulation."""

    answered: int
    """The requests that were answered before D was killed."""
    block_s: float
    """The KV cache blocks of P in use, times seconds, until then."""
    left: float
    """The blocks of P in use when D was killed."""
    free_after_s: float
    """The time from the kill until none of them was."""


@dataclass(frozen=True)
class Tolerance:
    """The bounds within which reality and simulation have to agree."""

    answered: float = 0.2
    """The bound as a share."""
    block_s: float = 0.3
    """The bound as a share."""
    left: float = 0.35
    """The bound as a share. Two requests more or less are a seventh of the figure."""
    free_after_s: float = 1.5
    """The bound in seconds: P's gauges are up to a second late, and stock's heartbeats come once a second."""


def simulate(scene: CrashScene, speed: Speed, connector: Connector) -> CrashSeen:
    """Plays the scene as `kvlease fleet compare` would, with engines of this speed."""
    arrivals = [
        Arrival(number * speed.every_s(scene), scene.prompt_tokens, scene.answer_tokens)
        for number in range(scene.requests)
    ]
    killed = FleetFaults(crashes=(Crash(speed.kill_at_s(scene), "consumer", 0),), restart_s=_NEVER_S)
    outcome = play(_fleet(scene, speed), _policy(scene, connector), arrivals, killed, SEED)
    blocks, leases = outcome.blocks, outcome.leases
    left = scene.prompt_blocks * sum(leases.ends.get(cause, 0) for cause in ("expired", "orphaned"))
    stranded_block_s = blocks.stranded_block_s - blocks.stranded_read_block_s
    # The simulation counts blocks from the grant on, an engine's gauge from the first token of the prefill on.
    prefilling_block_s = outcome.prefills.done * scene.prompt_blocks * speed.prefill_s
    return CrashSeen(
        answered=outcome.requests.right,
        block_s=blocks.held_block_s - stranded_block_s + prefilling_block_s,
        left=left,
        free_after_s=stranded_block_s / left if left else 0.0,
    )


def seen(samples: Sequence[tuple[float, int]], answered: Sequence[float], killed_at: float) -> CrashSeen:
    """The outcome of a real run, from P's blocks in use by time, and when each answer came; `killed_at` by the same
    clock.

    Raises `ValueError` when P was not free again in the end.
    """
    before = [(at, held) for at, held in samples if at <= killed_at]
    free = next((at for at, held in samples if at > killed_at and held == 0), None)
    if free is None or not before:
        raise ValueError(f"of {len(samples)} samples of P's blocks none shows them free after the kill")
    ends = [at for at, _ in before[1:]] + [killed_at]
    area = sum(held * (end - at) for (at, held), end in zip(before, ends, strict=True))
    return CrashSeen(sum(at <= killed_at for at in answered), area, before[-1][1], free - killed_at)


def median(played: Sequence[CrashSeen]) -> CrashSeen:
    """The median of each figure."""
    return CrashSeen(
        answered=statistics.median_low([each.answered for each in played]),
        block_s=statistics.median(each.block_s for each in played),
        left=statistics.median(each.left for each in played),
        free_after_s=statistics.median(each.free_after_s for each in played),
    )


def apart(real: CrashSeen, simulated: CrashSeen, bounds: Tolerance) -> list[str]:
    """The names of the figures in which the two are farther apart than the bounds allow."""
    far = [
        name
        for name in ("answered", "block_s", "left")
        if abs(getattr(real, name) - getattr(simulated, name)) > getattr(bounds, name) * getattr(real, name)
    ]
    if abs(real.free_after_s - simulated.free_after_s) > bounds.free_after_s:
        far.append("free_after_s")
    return far


def _fleet(scene: CrashScene, speed: Speed) -> Fleet:
    return Fleet(
        producers=1,
        consumers=1,
        block_tokens=scene.block_tokens,
        # One block of each pool is vLLM's null block.
        producer_blocks=scene.producer_blocks - 1,
        consumer_blocks=scene.decoder_blocks - 1,
        consumer_seats=scene.seats,
        reuse="newest",
        prefill_fixed_s=0.0,
        prefill_tokens_per_s=scene.prompt_tokens / speed.prefill_s,
        step_fixed_s=speed.answer_s / scene.answer_tokens,
        step_per_request_s=0.0,
        hop_s=0.0,
        retries=0,
        patience_s=None,
    )


def _policy(scene: CrashScene, connector: Connector) -> Policy:
    return Stock(scene.lease_s) if connector == "stock" else Kvlease({"kv_lease_duration": scene.lease_s})
