from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvlease.testing.http_engines import Behaviour
from proof.load.engines import EngineProcess, engine_processes, urls
from proof.load.routers import start_router
from proof.realengines.cores import choose_cores

TOKEN_S = 0.001


@dataclass(frozen=True)
class Served:
    """A router, and the engines behind it."""

    url: str
    p: EngineProcess
    d1: EngineProcess
    d2: EngineProcess

    @property
    def decoders(self) -> tuple[EngineProcess, EngineProcess]:
        return self.d1, self.d2

    def both(self, behaviour: Behaviour) -> None:
        """Has both decode engines do this."""
        for engine in self.decoders:
            engine.behave(behaviour)

    def ended(self, how: str) -> int:
        """The number of requests that ended so at decode engines."""
        return sum(int(engine.books()["calls"].get(how, 0)) for engine in self.decoders)

    def leases(self, how: str) -> int:
        """The number of P's leases that ended so, or are so now."""
        return int(self.p.books()["leases"].get(how, 0))


@pytest.fixture(scope="package")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    logs: Path = tmp_path_factory.mktemp("clients")
    cores = choose_cores()
    with ExitStack() as stack:
        engines = stack.enter_context(engine_processes(1, 2, cores.producer, logs, token_s=TOKEN_S))
        where = (urls(engines, "prefill"), urls(engines, "decode"))
        router = start_router("kvlease", *where, cores.decoder, logs, stack)
        yield Served(router.url, *engines)


@pytest.fixture
def served(started: Served) -> Iterator[Served]:
    """Engines that answer, until the test says otherwise. Afterwards no lease is out."""
    yield started
    for engine in (started.p, *started.decoders):
        engine.behave(Behaviour())
