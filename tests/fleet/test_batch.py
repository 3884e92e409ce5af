"""Continuous batching in virtual time ends requests at the same times as a model that cuts time into slices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlease.fleet.engines.batch import Batch

FIXED_S, PER_REQUEST_S = 0.01, 0.001
SLICE_S = 0.0005


def by_slices(requests: list[tuple[float, int]]) -> list[float]:
    """The times at which requests (joined at, tokens) end, with time cut into slices."""
    left = [float(tokens) for _, tokens in requests]
    ends = [0.0] * len(requests)
    slices = 0
    while not all(ends):
        now = slices * SLICE_S
        running = [i for i, (at, _) in enumerate(requests) if at <= now and not ends[i]]
        for i in running:
            left[i] -= SLICE_S / (FIXED_S + PER_REQUEST_S * len(running))
            if left[i] <= 1e-9:
                ends[i] = now + SLICE_S
        slices += 1
    return ends


def by_batch(requests: list[tuple[float, int]]) -> list[float]:
    batch: Batch[int] = Batch(FIXED_S, PER_REQUEST_S)
    ends = [0.0] * len(requests)
    coming = sorted(range(len(requests)), key=lambda i: requests[i][0])
    while coming or batch.size:
        finish = batch.next_finish()
        if coming and (finish is None or requests[coming[0]][0] <= finish):
            number = coming.pop(0)
            batch.join(number, requests[number][1], requests[number][0])
        else:
            assert finish is not None
            for number in batch.take_finished(finish):
                ends[number] = finish
                batch.leave(finish)
    return ends


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(0, 60).map(lambda n: n * 0.005), st.integers(1, 20)), min_size=1, max_size=5
    )
)
def test_ends_are_those_of_a_model_in_slices(requests: list[tuple[float, int]]) -> None:
    assert by_batch(requests) == pytest.approx(by_slices(requests), abs=0.004)


def test_nobody_gets_a_token_while_the_engine_stands_still() -> None:
    batch: Batch[str] = Batch(0.01, 0.0)
    assert batch.join("a", 10, 1.0) == pytest.approx(1.01)
    batch.stand_still(5.0, now=1.05)
    assert batch.next_finish() == pytest.approx(5.05)
    assert batch.take_finished(5.04) == []
    assert batch.take_finished(5.05) == ["a"]
