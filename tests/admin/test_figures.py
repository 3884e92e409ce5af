"""The figures of an engine: each has one meaning, and all of them are in the catalogue."""

import pytest

from kvlease.metrics.catalogue import COUNTERS, GAUGES, HISTOGRAMS
from kvlease.protocol import Fingerprint, LeaseRef
from tests.admin.engines import BLOCK_BYTES, PLACE, PROMPT, Pair


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_what_is_held_claimed_and_lapsed_is_told_in_leases_tokens_blocks_and_bytes(pair: Pair) -> None:
    first, second = pair.p.prefill("a", 3), pair.p.prefill("b", 5)
    assert pair.d.consumer.take_on("a", PROMPT, first, PLACE)
    pair.run(1.0)
    _, gauges, _ = pair.p.figures.now()
    told = {name: gauges[name, ""] for name in GAUGES if (name, "") in gauges}
    assert told == {
        "active_leases": 2, "claimed_leases": 1, "held_tokens": 2 * PROMPT.tokens, "held_blocks": 8,
        "held_bytes": 8 * BLOCK_BYTES, "lapsed_leases": 0, "lapsed_tokens": 0, "lapsed_blocks": 0, "lapsed_bytes": 0,
        "fence_slots_used": 2, "agent_up": 1, "draining": 0,
    }  # fmt: skip
    pair.d.consumer.release("a")
    pair.run(1.0)
    _, gauges, _ = pair.p.figures.now()
    assert [gauges[f"lapsed_{what}", ""] for what in ("leases", "tokens", "blocks", "bytes")] == [
        1, PROMPT.tokens, 3, 3 * BLOCK_BYTES,
    ]  # fmt: skip
    assert [gauges[f"held_{what}", ""] for what in ("tokens", "blocks", "bytes")] == [64, 5, 5 * BLOCK_BYTES]
    assert second.token in pair.p.producer.blocks


def test_what_is_held_for_the_silent_is_told(pair: Pair) -> None:
    ref = pair.p.prefill("a", 3)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(1.0)
    woken: list[float] = []
    pair.p.agent.wake_by(lambda: woken.append(pair.clock.now))
    pair.run(2.5, reads=False)
    _, gauges, _ = pair.p.figures.now()
    silent = [gauges[f"unheard_{what}", "silent"] for what in ("leases", "tokens", "blocks", "bytes")]
    assert silent == [1, PROMPT.tokens, 3, 3 * BLOCK_BYTES]
    assert gauges["unheard_leases", "dead"] == 0
    assert len(woken) == 1, "an idle engine is to tell it, and only when it changes"


def test_times_of_both_sides_are_told(pair: Pair) -> None:
    ref = pair.p.prefill("a", 3)
    pair.run(0.5)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(3.0)
    pair.d.consumer.release("a")
    pair.run(0.5)
    counts = {
        (side, name): sum(count for count, _ in histogram.cells())
        for side, engine in (("p", pair.p), ("d", pair.d))
        for name, histogram in engine.figures.now()[2].items()
    }
    for name in ("claim_wait_seconds", "claim_to_release_seconds", "lease_age_seconds"):
        assert counts["p", name] == 1, name
        assert counts["d", name] == 0, name
    assert counts["p", "renewal_remaining_seconds"] >= 2
    assert counts["d", "ack_round_trip_seconds"] >= 2


def test_messages_are_told_by_kind_and_what_one_sends_the_other_receives(pair: Pair) -> None:
    ref = pair.p.prefill("a", 3)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(3.0)
    (produced, _, _), (consumed, _, _) = pair.p.figures.now(), pair.d.figures.now()
    for kind in ("hello", "renew"):
        assert consumed["messages_sent", kind] == produced["messages_received", kind] > 0
        assert consumed["message_bytes_sent", kind] == produced["message_bytes_received", kind] > 10
    for kind in ("welcome", "ack", "probe"):
        assert produced["messages_sent", kind] >= consumed["messages_received", kind] > 0


def test_a_prefill_saved_is_told_in_tokens(pair: Pair) -> None:
    ref = pair.p.prefill("a", 3)
    pair.run(7.0)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(1.0)
    totals, _, _ = pair.p.figures.now()
    assert totals["saved_prefill_tokens", ""] == PROMPT.tokens
    assert totals["late_claims", "in_time"] == 1


def test_a_prefill_wasted_is_told_in_tokens_and_by_reason(pair: Pair) -> None:
    nowhere = LeaseRef(pair.p.agent.incarnation, 5, 0, 6000, Fingerprint(30, 7))
    pair.d.consumer.take_on("a", Fingerprint(30, 7), nowhere, PLACE)
    pair.run(2.0)
    _, unreadable = pair.d.consumer.begin(["a"])
    assert unreadable == {"a"}
    totals, _, _ = pair.d.figures.now()
    assert totals["wasted_prefill_tokens", "lost"] == 30


def test_workers_figures_are_in_the_page_and_not_in_what_vllm_gets_from_the_scheduler(pair: Pair) -> None:
    figures = pair.d.figures
    figures.workers.add({("fence_checks", "intact"): 2}, {"fence_read_seconds": {"3": [2, 0.0002]}})
    figures.workers.add({("fence_checks", "intact"): 1}, {"claim_wait_seconds": {"0": [1, 0.1]}, "unknown": {}})
    pair.d.counts["refused.handshake"] += 1
    totals, _, histograms = figures.now()
    assert totals["fence_checks", "intact"] == 3
    assert totals["refused", "handshake"] == 1
    assert histograms["fence_read_seconds"].cells()[3] == (2, 0.0002)
    assert histograms["claim_wait_seconds"].cells()[0] == (0, 0.0), "that is no worker's, and ends no step"
    assert "fence_checks" not in {name for name, _ in figures.totals(pair.d.agent.report())}


def test_a_message_that_is_refused_is_no_kind_of_message(pair: Pair) -> None:
    """The counts of an agent are told apart by their family, the part before the dot."""
    pair.run(0.1)
    totals, _, _ = pair.p.figures.now()
    assert {name for name, _ in totals} <= COUNTERS.keys()


def test_every_figure_is_in_the_catalogue_with_a_value_that_it_names(pair: Pair) -> None:
    ref = pair.p.prefill("a", 3)
    pair.d.consumer.take_on("a", PROMPT, ref, PLACE)
    pair.run(3.0)
    for engine in (pair.p, pair.d):
        totals, gauges, histograms = engine.figures.now()
        for name, value in totals:
            assert value in (COUNTERS[name].values or ("",)), (name, value)
        assert gauges.keys() == {(name, value) for name, metric in GAUGES.items() for value in metric.values or ("",)}
        assert histograms.keys() == HISTOGRAMS.keys()
