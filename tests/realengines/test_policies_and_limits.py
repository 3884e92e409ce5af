"""The settings of operators: the policy `fail`, few fence slots, settings that are refused.

Scheduler and worker are one process here, as vLLM runs a single GPU by default.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proof.realengines.engine import Engine, EngineError
from proof.realengines.prompts import draw_prompts
from tests.realengines.pairs import (
    TERM_S,
    TOKENS,
    Pair,
    Scene,
    consumer,
    producer,
    read_fresh,
    read_late,
    running,
    running_pair,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SLOTS = 2


@pytest.fixture(scope="module")
def pair(model: Path, logs: Path) -> Iterator[Pair]:
    settings = {"kv_lease_duration": TERM_S, "kv_lease_fence_slots": SLOTS}
    one_process = ("--distributed-executor-backend", "uni")
    yield from running_pair(
        producer(model, name="P-slots", extra_config=settings, extra_args=one_process),
        consumer(model, name="D-fail", load_failure_policy="fail", extra_args=one_process),
        logs,
    )


def test_late_read_fails_rather_than_answer_wrongly(pair: Pair) -> None:
    """R19: with the policy `fail`, vLLM's default, a late read is an error, never an answer."""

    async def scene(s: Scene) -> None:
        await read_fresh(s, seed=51, count=2)
        _, answer = await read_late(s, seed=52)
        assert answer.status == 500, answer.body
        await read_fresh(s, seed=53, count=1)

    pair.play(scene)


def test_without_a_slot_nothing_is_offered(pair: Pair) -> None:
    """P never grants an unfenced lease: with all slots used, D computes the prompt itself, rightly; it is counted."""

    async def scene(s: Scene) -> None:
        prompts = draw_prompts(SLOTS + 1, seed=54, longest=400)
        references = await s.prefill(prompts)
        assert ["kv_lease" in r.kv_transfer_params for r in references] == [True] * SLOTS + [False]
        await s.check(references, [await s.router.decode(reference, TOKENS) for reference in references])

    pair.play(scene)
    pair.p.wait_for_metrics(
        lambda m: m.value("kvlease:declined_offers_total", reason="no_slot") == 1, "known to have declined one offer"
    )
    pair.wait_drained()


def test_bad_setting_stops_the_engine(model: Path, logs: Path) -> None:
    """R10: an engine with a bad setting does not start; its log has the key, the value, what is allowed, an example."""
    engine = Engine(producer(model, name="P-refused", extra_config={"kv_lease_duration": 0.5}), logs)
    with pytest.raises(EngineError, match="died"), running(engine):
        pass
    said = "in kv_connector_extra_config, kv_lease_duration is 0.5: .* from 1 to .* for example"
    assert re.search(said, engine.log_path.read_text()), engine.log_path.read_text()[-3000:]
