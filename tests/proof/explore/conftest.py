from collections.abc import Iterator

import pytest

from kvlease.logs import silenced


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keeps the log lines of the code under test, which is played many thousand times, to itself."""
    with silenced():
        yield
