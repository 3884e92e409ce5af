import importlib.metadata
from importlib.util import find_spec


def pytest_report_collectionfinish() -> str:
    """Says what is tested: `make ray` takes other minors of vLLM, too."""
    if find_spec("ray") is None or find_spec("vllm") is None:
        return "Ray or vLLM: not here"
    from vllm.version import __version__ as vllm

    return f"Ray {importlib.metadata.version('ray')}, vLLM {vllm}"
