"""The figures of a scenario, made from its answers and counters."""

import pytest

from kvlease.metrics.scraped import Metrics, Sample
from proof.demo.outcome import Counts, read_counts, tally
from proof.demo.stage import fill
from proof.realengines.metrics import FENCE_CHECKS, LEASE_ENDS, STOCK_EXPIRED, STOCK_READS
from proof.realengines.router import Answer

RIGHT = [(1, 2), (3, 4), (5, 6)]
NOTHING = Metrics(())


def test_answers_are_compared_token_by_token_and_failures_are_not_wrong_answers() -> None:
    answers = [Answer(200, ((1, 2),), ""), Answer(200, ((3, 9),), ""), Answer(500, (), "error")]
    result = tally(answers, RIGHT)
    assert (result.right, result.wrong, result.failed, result.total) == (1, 1, 1, 3)
    assert result.statuses == {200: 2, 500: 1}


def test_an_empty_answer_with_http_200_is_wrong() -> None:
    assert tally([Answer(200, (), "")], [(1, 2)]).wrong == 1


def test_a_missing_answer_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        tally([Answer(200, ((1, 2),), "")], RIGHT)


def test_stock_counts_expired_requests_and_transfers() -> None:
    producer = Metrics((Sample(STOCK_EXPIRED, {"engine": "0"}, 6.0),))
    decoder = Metrics((Sample(STOCK_READS, {"engine": "0"}, 4.0),))
    assert read_counts("stock", producer, decoder) == Counts(leases_lost=6, read=4)


def test_kvlease_counts_as_lost_what_was_taken_and_not_what_was_released() -> None:
    ends = {"released": 5, "aborted": 1, "expired": 2, "orphaned": 3, "aged_out": 4}
    producer = Metrics(tuple(Sample(LEASE_ENDS, {"cause": cause}, value) for cause, value in ends.items()))
    checks = {"intact": 5, "revoked": 1}
    transfers = Sample(STOCK_READS, {"engine": "0"}, 6.0)
    decoder = Metrics((transfers, *(Sample(FENCE_CHECKS, {"verdict": v}, n) for v, n in checks.items())))
    counts = read_counts("kvlease", producer, decoder)
    assert counts.leases_lost == 9
    assert counts.lease_ends == ends
    assert counts.fence_checks == checks
    assert counts.read == 5, "what was refused is not read"


def test_counts_since_an_earlier_reading_leave_out_what_did_not_change() -> None:
    now = Counts(7, 12, {"intact": 12, "revoked": 2}, {"released": 12})
    earlier = Counts(1, 6, {"intact": 6, "revoked": 2}, {})
    assert now.since(earlier) == Counts(6, 6, {"intact": 6}, {"released": 12})


@pytest.mark.parametrize("free", [0, 1, 2, 50, 94, 95, 96, 188, 200, 479])
def test_new_prompts_and_their_answers_take_every_free_block(free: int) -> None:
    sizes = fill(free)
    # The answer to each prompt takes one block more. A single free block stays: it cannot hold a prompt and its answer.
    assert free - sum(size + 1 for size in sizes) in (0, 1)
    assert all(size > 0 for size in sizes)
