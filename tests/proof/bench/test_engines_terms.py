"""The shortest term, and what limits it, is found from leases that lived and pauses that engines wrote down."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from proof.bench.engines.pauses import Second, read, sum_up
from proof.bench.engines.queue import Life, Queue
from proof.bench.engines.short_terms import AMOUNTS
from proof.bench.engines.terms import WHATS, Trial, Trials, goals, notes, rows
from proof.realengines.spec import BLOCK_TOKENS, Connector
from tests.proof.bench.spreads import known


def second(at: float, longest_s: float = 0.01, **more: float) -> Second:
    values = {"turns": 100, "waited_s": 0.0, "thread_s": 0.0, "messages": 0, "leases": 0, "spent_s": 0.0} | more
    return Second(at=at, longest_s=longest_s, **values)  # type: ignore[arg-type]


def trial(
    connector: Connector, term_s: float, first_expiry_s: float | None = None, **seconds: Sequence[Second]
) -> Trial:
    life = Life(began=0.0, lived_s=first_expiry_s or 600.0, leases=1200, renewals=3600, waited_s=20.0)
    life.first_expiry_s = first_expiry_s
    life.false_expiries = 0 if first_expiry_s is None else 3
    given = {(engine, what): seconds.get(f"{engine}_{what}", ()) for engine in ("P", "D") for what in WHATS}
    return Trial(connector, term_s, life, given)


def test_the_longest_pause_and_how_long_it_waited_for_a_core() -> None:
    found = sum_up([second(1, longest_s=9.0), second(2, longest_s=0.3, waited_s=0.2), second(3, longest_s=0.1)])
    assert found is not None
    # The first line counts what was before the time that is asked for.
    assert (found.longest_s, found.waited_s, found.per_s) == (0.3, 0.2, 100.0)


def test_rates_and_shares() -> None:
    found = sum_up([second(0, thread_s=1.0), second(2, thread_s=1.1, messages=4, leases=40, spent_s=0.02)])
    assert found is not None
    assert (found.messages_per_s, found.leases_per_s, found.spent_share) == (2.0, 20.0, 0.01)
    assert found.thread_share == pytest.approx(0.05)
    assert sum_up([second(1)]) is None


def test_lines_outside_the_time_and_half_a_line_are_left_out(tmp_path: Path) -> None:
    lines = [json.dumps({name: getattr(second(at), name) for name in Second.__dataclass_fields__}) for at in (1, 2, 3)]
    (tmp_path / "D-agent.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:20])
    assert [s.at for s in read(tmp_path, "D", "agent", since=1.5, until=3.0)] == [2, 3]
    assert read(tmp_path, "D", "sent", since=0, until=9) == []


def test_the_shortest_term_that_lived() -> None:
    trials: Trials = {
        "kvlease": [trial("kvlease", 1.0)],
        "stock": [trial("stock", 1, first_expiry_s=2.0), trial("stock", 2)],
    }
    (goal,) = goals(trials, 600.0)
    assert goal.met is True
    assert "kvlease 1 s (1200 leases" in goal.found
    assert "stock 2 s" in goal.found
    shortest, waited = rows(trials)[:2]
    assert (known(shortest.ratio).median, known(waited.ours).median) == (0.5, 20.0)
    assert any(
        "stock, term 1 s: first false expiry within 2 s, 3 of 1200 leases" in note for note in notes(trials, Queue())
    )


def test_missed_where_only_a_longer_term_lives_or_none() -> None:
    stock = [trial("stock", 6)]
    longer: Trials = {"kvlease": [trial("kvlease", 1.0, first_expiry_s=40.0), trial("kvlease", 1.5)], "stock": stock}
    none: Trials = {"kvlease": [trial("kvlease", 1.0, first_expiry_s=40.0)], "stock": stock}
    assert [goals(trials, 600.0)[0].met for trials in (longer, none)] == [False, False]
    assert rows(none)[0].ours is None


def test_what_ends_a_lease_is_told_beside_the_longest_pause() -> None:
    pauses = [second(1), second(2, longest_s=0.4, waited_s=0.35)]
    said = notes({"kvlease": [trial("kvlease", 1.0, D_agent=pauses)], "stock": [trial("stock", 6)]}, Queue())[1]
    assert "D's agent 400 ms (350 ms of it without a core)" in said
    assert "sends nothing for 500 ms longer than an interval" in said


def test_terms_are_tried_from_the_shortest_up() -> None:
    for amount in AMOUNTS.values():
        for terms in amount.terms.values():
            assert list(terms) == sorted(terms)
        assert amount.terms["kvlease"][0] == 1.0


def test_requests_wait_on_p_and_nothing_is_preempted_on_d() -> None:
    """D has room for the requests on its seats, to their last token, and never for the prompt of one more."""
    queue = Queue()
    prompt = -(-queue.prompt_tokens // BLOCK_TOKENS)
    whole = -(-(queue.prompt_tokens + queue.answer_tokens) // BLOCK_TOKENS)
    usable = queue.decoder_blocks - 1
    assert queue.seats * whole <= usable < queue.seats * prompt + prompt
    others = queue.others * -(-queue.others_longest // BLOCK_TOKENS)
    assert (queue.waiting + queue.seats) * prompt + others < queue.producer_blocks
