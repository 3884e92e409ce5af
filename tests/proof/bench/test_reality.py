"""The figures of real engines and of the simulation are compared, and reported where they are too far apart."""

from dataclasses import replace

import pytest

from proof.bench.reality.scene import CrashScene, CrashSeen, Speed, Tolerance, apart, median, seen, simulate

SCENE = CrashScene()
SPEED = Speed(prefill_s=0.1, answer_s=1.2)
REAL = CrashSeen(answered=20, block_s=1000.0, left=160, free_after_s=1.5)


def test_a_run_is_read_off_its_samples() -> None:
    samples = [(0.0, 0), (1.0, 16), (3.0, 32), (4.5, 16), (5.0, 0), (6.0, 0)]
    assert seen(samples, answered=[2.0, 3.5, 4.4], killed_at=4.0) == CrashSeen(2, 2 * 16 + 32.0, 32, 1.0)


def test_a_run_that_never_gets_free_is_refused() -> None:
    with pytest.raises(ValueError, match="none shows them free"):
        seen([(0.0, 0), (5.0, 16)], [], killed_at=4.0)


@pytest.mark.parametrize(
    ("simulated", "far"),
    [
        (CrashSeen(17, 1200.0, 192, 2.9), []),
        (CrashSeen(15, 1000.0, 160, 1.5), ["answered"]),
        (CrashSeen(20, 600.0, 160, 1.5), ["block_s"]),
        (CrashSeen(20, 1000.0, 80, 1.5), ["left"]),
        (CrashSeen(20, 1000.0, 160, 6.0), ["free_after_s"]),
    ],
)
def test_what_is_farther_apart_than_the_bounds_is_named(simulated: CrashSeen, far: list[str]) -> None:
    assert apart(REAL, simulated, Tolerance()) == far


def test_medians_are_of_each_figure() -> None:
    """A crash that was played while the machine was quick weighs no more than the others."""
    quick, slow = CrashSeen(26, 500.0, 64, 1.0), CrashSeen(19, 1300.0, 176, 9.0)
    assert median([quick, REAL, slow]) == CrashSeen(20, 1000.0, 160, 1.5)


def test_the_simulated_scene_has_a_queue_when_d_is_killed() -> None:
    ours, stock = simulate(SCENE, SPEED, "kvlease"), simulate(SCENE, SPEED, "stock")
    # D is killed after 30 intervals of 0.375 s and a second: it gives two answers each 1.2 s, from 0.1 s on.
    assert 18 <= ours.answered <= 20
    assert ours.answered == stock.answered
    in_queue = SCENE.requests - ours.answered - SCENE.seats
    assert ours.left == in_queue * SCENE.prompt_blocks
    assert 0.0 < ours.free_after_s <= 0.5, "what it takes to notice the death"
    assert 3.0 <= stock.free_after_s <= 4.5, "what is left of the last extension"


def test_the_queue_is_as_long_on_a_quick_machine() -> None:
    quick = simulate(SCENE, Speed(prefill_s=0.02, answer_s=0.4), "kvlease")
    assert 6 * SCENE.prompt_blocks <= quick.left <= 12 * SCENE.prompt_blocks


def test_less_load_is_seen_in_the_simulation() -> None:
    calm = simulate(replace(SCENE, load=0.5), SPEED, "kvlease")
    assert calm.answered == SCENE.requests
    assert calm.left == 0
    assert calm.free_after_s == 0
