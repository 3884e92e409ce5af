import importlib.metadata
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import pytest


def pytest_report_collectionfinish() -> list[str]:
    """Says what is tested, where Ray is: `make ray` takes other minors of vLLM, too."""
    if find_spec("ray") is None:
        return []
    from vllm.version import __version__ as vllm

    return [f"Ray {importlib.metadata.version('ray')}, vLLM {vllm}"]


@pytest.fixture(scope="session", autouse=True)
def end_like_ctrl_c() -> Iterator[None]:
    """Makes SIGTERM, as a supervisor sends it, end the tests as Ctrl-C does, so that the cluster ends as well."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)
