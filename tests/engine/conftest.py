import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvlease.cluster.model import build_model


@pytest.fixture(scope="session", autouse=True)
def end_like_ctrl_c() -> Iterator[None]:
    """Whoever ends the tests with SIGTERM, a supervisor that gives up for one, is to end the engines as well."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def model() -> Path:
    return build_model("llama")


@pytest.fixture(scope="session")
def hybrid_model() -> Path:
    return build_model("hybrid")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")
