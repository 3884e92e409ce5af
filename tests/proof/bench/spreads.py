"""The spread of a row that has one."""

from proof.bench.frame.figures import Spread


def known(spread: Spread | None) -> Spread:
    assert spread is not None
    return spread
