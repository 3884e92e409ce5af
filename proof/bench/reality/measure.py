"""The same crash on real engines and in `kvlease fleet compare`: how far the simulation can be believed.

The simulation is told how fast the engines are, as measured just before; a machine that is a tenth faster or slower in
the seconds after that makes the queue a quarter shorter or longer. So the crash is played several times, and medians
are compared.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from kvlease.up.model import build_model
from proof.bench.engines.pair import choose_bench_cores, pinned, started
from proof.bench.frame.figures import Effort, FigureRow, Goal, Result, Spread
from proof.bench.frame.progress import say
from proof.bench.reality.scene import CrashScene, CrashSeen, Speed, Tolerance, apart, median, seen, simulate
from proof.realengines.cores import Cores
from proof.realengines.engine import Engine
from proof.realengines.prompts import draw_equal_prompts
from proof.realengines.router import Router, open_client
from proof.realengines.spec import Connector, EngineSpec

SCENE = CrashScene()
BOUNDS = Tolerance()
SAMPLE_EVERY_S = 0.2
FREE_WITHIN_S = 40.0
"""The time after the kill in which P's blocks have to be free; far more than a term."""
_SEED = 7701
_ROUNDS = 5
"""The rounds of answers, as many at a time as D has seats, by which its speed is measured."""
_CONNECTORS: dict[Effort, tuple[Connector, ...]] = {Effort.SHORT: ("kvlease",), Effort.FULL: ("kvlease", "stock")}
_TIMES = {Effort.SHORT: 1, Effort.FULL: 3}
Pairs = Sequence[tuple[CrashSeen, CrashSeen]]
"""The outcomes of each time, as (on real engines, simulated)."""
_FIGURES = {
    "answered": ("requests answered before the kill", ""),
    "block_s": ("P's blocks in use until then, times seconds", "block-s"),
    "left": ("P's blocks in use at the kill", ""),
    "free_after_s": ("from the kill until P's blocks are free", "s"),
}


def run(effort: Effort) -> Result:
    """Runs the benchmark. Raises CannotRun on one core, EngineError where more fails than the D that is killed."""
    cores, model = choose_bench_cores(), build_model("llama")
    both = {
        connector: [play_both(SCENE, connector, model, cores) for _ in range(_TIMES[effort])]
        for connector in _CONNECTORS[effort]
    }
    return Result(
        name="reality",
        title="one crash on real engines and in the simulation",
        sides=("real engines", "simulated"),
        rows=[row for connector, pairs in both.items() for row in _rows(connector, pairs)],
        goals=[_goal(connector, pairs) for connector, pairs in both.items()],
        notes=[
            f"{SCENE.requests} requests of {SCENE.prompt_tokens} tokens come {SCENE.load:g} times as fast as a D with "
            f"{SCENE.seats} seats answers; D is killed after the last one; leases of {SCENE.lease_s} s",
            "the simulation is told what a prefill, and an answer of a full D, take on these engines, and nothing else",
            f"played {_TIMES[effort]} times, each with engines of its own; what is compared are the medians",
            f"bounds: answered ±{BOUNDS.answered:.0%}, block-seconds ±{BOUNDS.block_s:.0%}, blocks at the kill "
            f"±{BOUNDS.left:.0%}, free after ±{BOUNDS.free_after_s:g} s",
        ],
    )


def play_both(scene: CrashScene, connector: Connector, model: Path, cores: Cores) -> tuple[CrashSeen, CrashSeen]:
    """Plays the scene on both; returns (on real engines, simulated)."""
    say(f"{connector}: on real engines")
    with started(_specs(scene, connector, model, cores)) as (producer, decoder):
        speed, real = asyncio.run(_play(scene, producer, decoder))
    say(
        f"{connector}: simulated, a prefill takes {speed.prefill_s:.3f} s, {scene.seats} answers {speed.answer_s:.2f} s"
    )
    return real, simulate(scene, speed, connector)


async def _play(scene: CrashScene, producer: Engine, decoder: Engine) -> tuple[Speed, CrashSeen]:
    async with open_client() as client:
        router = Router(client, producer.url, decoder.url)
        count = scene.requests + scene.seats * _ROUNDS + 1
        fresh = iter(draw_equal_prompts(count, seed=_SEED, tokens=scene.prompt_tokens))
        speed = await _measure(scene, router, fresh)
        return speed, await _crash(scene, speed, router, producer, decoder, list(fresh))


async def _measure(scene: CrashScene, router: Router, fresh: Iterator[str]) -> Speed:
    """Measures the engines' speed, after a first request that makes them known to each other.

    D has a queue meanwhile, as in the scene: P steps without pause while it holds blocks, and where the two cores are
    one core's threads D is slower for it.
    """
    await router.decode(await router.prefill(next(fresh)), scene.answer_tokens)
    prefills, references = [], []
    for _ in range(_ROUNDS * scene.seats):
        begun = time.monotonic()
        references.append(await router.prefill(next(fresh)))
        prefills.append(time.monotonic() - begun)
    begun = time.monotonic()
    await asyncio.gather(*(router.decode(reference, scene.answer_tokens) for reference in references))
    return Speed(statistics.median(prefills), (time.monotonic() - begun) / _ROUNDS)


async def _crash(
    scene: CrashScene, speed: Speed, router: Router, producer: Engine, decoder: Engine, prompts: list[str]
) -> CrashSeen:
    samples: list[tuple[float, int]] = []
    answered: list[float] = []
    begun = time.monotonic()
    clients = [
        asyncio.create_task(_client(scene, router, prompt, begun + number * speed.every_s(scene), answered))
        for number, prompt in enumerate(prompts)
    ]
    while time.monotonic() < begun + speed.kill_at_s(scene):
        await _sample(producer, samples)
    killed_at = await asyncio.to_thread(decoder.kill)
    while samples[-1][0] <= killed_at or (samples[-1][1] and time.monotonic() < killed_at + FREE_WITHIN_S):
        await _sample(producer, samples)
    # The clients end at once: those that were not answered have been cut off.
    await asyncio.gather(*clients)
    return seen([(at - begun, held) for at, held in samples], [at - begun for at in answered], killed_at - begun)


async def _client(scene: CrashScene, router: Router, prompt: str, at: float, answered: list[float]) -> None:
    await asyncio.sleep(at - time.monotonic())
    reference = await router.prefill(prompt)
    try:
        answer = await router.decode(reference, scene.answer_tokens)
    except httpx.TransportError:
        return
    if answer.token_ids:
        answered.append(time.monotonic())


async def _sample(producer: Engine, samples: list[tuple[float, int]]) -> None:
    held = await asyncio.to_thread(producer.held_blocks)
    samples.append((time.monotonic(), held))
    await asyncio.sleep(SAMPLE_EVERY_S)


def _specs(scene: CrashScene, connector: Connector, model: Path, cores: Cores) -> list[EngineSpec]:
    shared: dict[str, Any] = {
        "model": model,
        "connector": connector,
        "extra_config": {"kv_lease_duration": scene.lease_s},
        "max_model_len": scene.max_model_len,
    }
    return [
        pinned(cores, "kv_producer", name="P", num_blocks=scene.producer_blocks, **shared),
        pinned(cores, "kv_consumer", name="D", num_blocks=scene.decoder_blocks, max_num_seqs=scene.seats, **shared),
    ]


def _rows(connector: Connector, pairs: Pairs) -> list[FigureRow]:
    rows = []
    for name, (text, unit) in _FIGURES.items():
        there = [float(getattr(real, name)) for real, _ in pairs]
        here = [float(getattr(simulated, name)) for _, simulated in pairs]
        ratios = [a / b for a, b in zip(there, here, strict=True) if b]
        ratio = Spread.of(ratios) if ratios else None
        rows.append(FigureRow(f"{connector}: {text}", unit, Spread.of(there), Spread.of(here), ratio))
    return rows


def _goal(connector: Connector, pairs: Pairs) -> Goal:
    far = apart(median([real for real, _ in pairs]), median([simulated for _, simulated in pairs]), BOUNDS)
    found = f"farther apart: {', '.join(far)}" if far else "all four figures within them"
    return Goal(f"{connector}: real engines and simulation agree within the bounds stated", found, not far)
