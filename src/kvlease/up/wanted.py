"""The wishes of the command line, before anything is known of the machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kvlease.up.engines import HOST, Connector

EngineRole = Literal["prefill", "decode"]
ENGINE_ROLES: tuple[EngineRole, ...] = ("prefill", "decode")
DEFAULT_PORT = 8000
DEFAULT_DRAIN_S = 30


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The engines and the router that somebody wants."""

    prefill: int = 1
    decode: int = 1
    """The numbers of engines."""
    model: str | None = None
    """A directory, or a name that vLLM fetches; None: the tiny model that kvlease makes itself."""
    connector: Connector = "kvlease"
    host: str = HOST
    """The address at which the router listens. Engines are for this machine alone."""
    port: int = DEFAULT_PORT
    devices: tuple[str, ...] | None = None
    """The devices to use; None: all that are found."""
    share_devices: bool = False
    """True: engines may share devices where there are fewer than engines."""
    engine_arguments: tuple[str, ...] = ()
    """vLLM's arguments for all engines."""
    role_arguments: Mapping[EngineRole, tuple[str, ...]] = field(default_factory=dict)
    """vLLM's arguments for the engines of one role, after those for all."""
    router_arguments: tuple[str, ...] = ()
    drain_s: int = DEFAULT_DRAIN_S
    """The time for requests that run, and for leases that are out, when everything is to end."""
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    """Settings for `kv_connector_extra_config`."""

    def count(self, role: EngineRole) -> int:
        """Returns the number of engines of a role."""
        return self.prefill if role == "prefill" else self.decode

    def arguments(self, role: EngineRole) -> tuple[str, ...]:
        """Returns vLLM's arguments for the engines of a role."""
        return (*self.engine_arguments, *self.role_arguments.get(role, ()))
