import runpy
import signal
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from kvlease.agent.nixl import NixlTransport
from kvlease.up.model import build_model
from tests.realengines.account import StandstillWatch, account_of
from tests.realengines.nixl_peer import PeerProcess
from tests.realengines.over_nixl import ME, PEER
from tests.realengines.pairs import Pair, consumer, live_engines, producer, running_pair

watch = StandstillWatch()


def pytest_report_collectionfinish() -> str:
    """Says which vLLM is tested: `make matrix` runs the same tests with several."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        return "vLLM: none"
    folder = Path(found.origin).parent
    return f"vLLM: {runpy.run_path(str(folder / '_version.py'))['__version__']}, in {folder}"


@pytest.fixture(scope="session", autouse=True)
def end_like_ctrl_c() -> Iterator[None]:
    """Makes SIGTERM, as a supervisor sends it, end the tests as Ctrl-C does, so that the engines end as well."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def watched() -> None:
    watch.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to a failed test the account of its engines, and whether the machine stood still meanwhile."""
    report = yield
    if report.failed and live_engines:
        report.sections.append(("the machine", str(watch)))
        report.sections += [(f"engine {engine.spec.name}", account_of(engine)) for engine in live_engines]
    return report


@pytest.fixture(scope="session")
def model() -> Path:
    return build_model("llama")


@pytest.fixture(scope="session")
def hybrid_model() -> Path:
    return build_model("hybrid")


@pytest.fixture(scope="session")
def shared_pair(model: Path, logs: Path) -> Iterator[Pair]:
    """The plain pair, for modules that leave it as they found it: kvlease on both sides, one worker each."""
    # An engine id that outlives a restart is the hardest case for old references. Logprobs are compiled when they are
    # first asked for, which takes longer than all other tests of prompts.
    uncompiled = {"TORCHDYNAMO_DISABLE": "1"}
    yield from running_pair(producer(model, engine_id="prefill-0"), consumer(model, extra_env=uncompiled), logs)


@pytest.fixture
def nothing_left(pair: Pair) -> Iterator[None]:
    """Asserts that a test leaves both engines of its module's pair alive, and P without a lease or a slot in use.

    A lease whose reference reached another prompt may have to expire first.
    """
    yield
    assert pair.p.is_alive()
    assert pair.d.is_alive()
    pair.wait_drained()
    pair.wait_no_lease_out()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests that share a pair last, so that there is one pair of engines at a time on the two cores."""
    items.sort(key=lambda item: "shared_pair" in getattr(item, "fixturenames", ()))


@pytest.fixture
def transport() -> Iterator[NixlTransport]:
    transport = NixlTransport(ME)
    yield transport
    transport.close()


@pytest.fixture
def peer() -> Iterator[PeerProcess]:
    with PeerProcess(PEER) as process:
        yield process


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")
