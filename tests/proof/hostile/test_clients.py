"""Clients that write `kv_transfer_params` of their own harm nobody else's request (R12, R14)."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proof.hostile.client import play
from proof.hostile.targets import conditions

SOME = settings(derandomize=True, database=None, deadline=None, max_examples=15)


@SOME
@given(st.binary(min_size=20, max_size=300))
def test_r14_hostile_clients_take_no_lease_from_honest_ones(data: bytes) -> None:
    with conditions():
        play(data)


@pytest.mark.parametrize("seed", range(12))
def test_r14_many_hostile_clients(seed: int) -> None:
    with conditions():
        play(random.Random(seed).randbytes(500))
