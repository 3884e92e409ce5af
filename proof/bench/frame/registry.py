"""The benchmarks that there are, in the order in which they run."""

import importlib
from collections.abc import Callable
from typing import NamedTuple, cast

from proof.bench.frame.errors import CannotRun
from proof.bench.frame.figures import Effort, Result


class Benchmark(NamedTuple):
    """A benchmark that can be asked for by name."""

    module: str
    """The module below `proof.bench` whose `run` it is."""
    what: str
    """One line, for the list."""


BENCHMARKS: dict[str, Benchmark] = {
    "renewal": Benchmark("core.renewal", "producer: handling one renewal, for 10 to 1,000,000 claimed leases"),
    "step": Benchmark("core.step", "producer: what the hooks add to an engine step in which nothing is to be done"),
    "interval": Benchmark("core.interval", "consumer: building what is sent in one interval, for 10 to 100,000 leases"),
    "prompt": Benchmark(
        "core.prompt", "both: what binds a lease to its prompt, for prompts of 1,000 to 1,000,000 tokens"
    ),
    "wire": Benchmark("wire.measure", "bytes and messages for each lease and term, for TP 1 to 8 on both sides"),
    "churn": Benchmark(
        "churn.measure", "5,000 leases a second granted, claimed and released: processor time and memory for each"
    ),
    "fence": Benchmark(
        "fence.measure", "what the fence adds to a read: shared memory, TCP, and a GPU where there is one"
    ),
    "engines": Benchmark(
        "engines.measure", "real engines under the same traffic: throughput, time to first token, time per token"
    ),
    "short-terms": Benchmark("engines.short_terms", "the shortest lease that saturated engines keep for ten minutes"),
    "crash": Benchmark("engines.crash", "prefill throughput in the minute after the decoder's death"),
    "watched": Benchmark(
        "watched.measure", "real engines with everything on that an operator can watch, beside the same with nothing on"
    ),
    "ends": Benchmark(
        "ends.measure", "real engines: leases that are over, P's memory that is back, and reads of it all the same"
    ),
    "reality": Benchmark(
        "reality.measure",
        "one crash on real engines and in `kvlease fleet compare`: how far the simulation can be believed",
    ),
}


def load(name: str) -> Callable[[Effort], Result]:
    """The function that runs this benchmark. Raises `CannotRun` for a name or a package that there is not."""
    if name not in BENCHMARKS:
        raise CannotRun(f"{name} is no benchmark: choose from {', '.join(BENCHMARKS)}")
    try:
        module = importlib.import_module(f"proof.bench.{BENCHMARKS[name].module}")
    except ModuleNotFoundError as e:
        raise CannotRun(f"{name} needs {e.name}, which is not installed here: `make bench` installs it") from e
    return cast(Callable[[Effort], Result], module.run)
