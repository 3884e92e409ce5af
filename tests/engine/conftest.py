from pathlib import Path

import pytest

from kvlease.cluster.model import build_model


@pytest.fixture(scope="session")
def model() -> Path:
    return build_model("llama")


@pytest.fixture(scope="session")
def hybrid_model() -> Path:
    return build_model("hybrid")


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")
