"""The benchmarks that there are, in the order in which they run."""

import importlib
from collections.abc import Callable
from typing import cast

from benchmarks.errors import CannotRun
from benchmarks.figures import Effort, Result

BENCHMARKS: dict[str, str] = {
    "renewal": "producer: handling one renewal, for 10 to 1,000,000 claimed leases",
    "step": "producer: what the hooks add to an engine step in which nothing is to be done",
    "interval": "consumer: building what is sent in one interval, for 10 to 100,000 leases",
    "prompt": "both: what binds a lease to its prompt, for prompts of 1,000 to 1,000,000 tokens",
    "wire": "bytes and messages for each lease and term, for TP 1 to 8 on both sides",
    "churn": "5,000 leases a second granted, claimed and released: processor time and memory for each",
    "fence": "what the fence adds to a read: shared memory, TCP, and a GPU where there is one",
    "engines": "real engines under the same traffic: throughput, time to first token, time per token",
    "short-terms": "the shortest lease that saturated engines keep for ten minutes",
    "crash": "prefill throughput in the minute after the decoder's death",
    "reality": "one crash on real engines and in `kvlease fleet compare`: how far the simulation can be believed",
}


def load(name: str) -> Callable[[Effort], Result]:
    """The function that runs this benchmark. Raises `CannotRun` where a package that it needs is missing."""
    try:
        module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    except ModuleNotFoundError as e:
        raise CannotRun(f"{name} needs {e.name}, which is not installed here: `make bench` installs it") from e
    return cast(Callable[[Effort], Result], module.run)
