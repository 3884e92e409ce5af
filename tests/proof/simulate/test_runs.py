"""A few simulated runs, for `make check`: under every fault, producers and consumers keep every promise."""

import pytest

from proof.simulate.plan import draw_plan
from proof.simulate.run import run

pytestmark = pytest.mark.long


@pytest.mark.parametrize("seed", range(20))
def test_whatever_goes_wrong_every_promise_is_kept(seed: int) -> None:
    assert run(draw_plan(seed)).violation is None
