"""A few simulated runs, for `make check`: producers and consumers under every fault keep every promise."""

import pytest

from proof.simulate.plan import draw_plan
from proof.simulate.run import run


@pytest.mark.parametrize("seed", range(20))
def test_whatever_goes_wrong_every_promise_is_kept(seed: int) -> None:
    assert run(draw_plan(seed)).violation is None
