"""R37: on ROCm vLLM uses `nixl_rocm`, and so does kvlease, with that package's agents and errors."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kvlease.agent.nixl import NixlTransport, errors_of
from kvlease.errors import PeerGone


class nixlRemoteDisconnectError(Exception):
    pass


class nixlBackendError(Exception):
    pass


class Agent:
    def __init__(self, name: str, config: Any) -> None:
        self.name, self.config = name, config

    def get_agent_metadata(self) -> bytes:
        return b"on rocm"

    def add_remote_agent(self, address: bytes) -> str:
        raise nixlBackendError(address)


@pytest.fixture
def rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with `nixl_rocm` and no `nixl`."""
    modules: dict[str, dict[str, Any]] = {
        "nixl_rocm": {},
        "nixl_rocm._api": {"nixl_agent": Agent, "nixl_agent_config": SimpleNamespace},
        "nixl_rocm._bindings": {kind.__name__: kind for kind in (nixlRemoteDisconnectError, nixlBackendError)},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "nixl", None)


@pytest.mark.usefixtures("rocm")
def test_fences_fail_by_the_errors_of_the_platforms_own_package() -> None:
    errors = errors_of("nixl_rocm")
    assert set(errors.all) == {nixlRemoteDisconnectError, nixlBackendError}
    assert errors.disconnected is nixlRemoteDisconnectError


@pytest.mark.usefixtures("rocm")
def test_the_lease_agent_is_one_of_the_platforms_own_package() -> None:
    transport = NixlTransport(1, ["UCX"], "nixl_rocm")
    assert transport.address == b"on rocm"
    with pytest.raises(PeerGone, match="cannot be reached"):
        transport.connect(2, b"kvlease-0000000000000002")
