"""The checks on an engine's environment: of a configuration, or of the shell that engines are started from."""

import ipaddress
from collections.abc import Iterator, Mapping

from kvlease.admin.settings import LISTEN, TOKEN_VARIABLE
from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.setups import (
    DEFAULT_HOST,
    HOST_VARIABLE,
    LATER,
    PLUGINS_VARIABLE,
    PORT_VARIABLE,
    EngineSetup,
)
from kvlease.vllm.plugin import REPLACES

PLUGIN = "kvlease"
_REACHABLE = f"set {HOST_VARIABLE} to this engine's address, as decode engines reach it; in a pod, status.podIP"


def is_loopback(host: str) -> bool:
    """Tells whether a host is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost")


def is_unspecified(host: str) -> bool:
    """Tells whether a host is no address to connect to, but all addresses of a machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host in ("", "*")


@error(
    "side-channel-host",
    f"A {HOST_VARIABLE} that nobody can connect to, or in a pod that others cannot reach",
    "Decode engines are told it by prefill engines, fetch handshake and lease card there, and read nothing without.",
)
def side_channel_host(setup: EngineSetup) -> Iterator[Symptom]:
    host = setup.variables.get(HOST_VARIABLE)
    if not setup.produces or (host or "").startswith(LATER[0]):
        return
    if host is not None and is_unspecified(host):
        yield Symptom(f"{HOST_VARIABLE}={host}", _REACHABLE)
    elif setup.pod is not None and is_loopback(host or DEFAULT_HOST):
        yield Symptom(f"{HOST_VARIABLE} is {host or f'not set, so {DEFAULT_HOST}'}, in a pod", _REACHABLE)


@warning(
    "side-channel-loopback",
    f"A {HOST_VARIABLE} of this machine alone: vLLM's default is {DEFAULT_HOST}",
    "Decode engines on other machines are told to connect to themselves, and read nothing; on one machine it is right.",
)
def side_channel_loopback(setup: EngineSetup) -> Iterator[Symptom]:
    host = setup.variables.get(HOST_VARIABLE)
    if setup.produces and setup.pod is None and setup.framework == "vLLM" and setup.arguments is not None:
        if host is None:
            yield Symptom(f"{HOST_VARIABLE} is not set, so {DEFAULT_HOST}", _REACHABLE)
        elif host and is_loopback(host):
            yield Symptom(f"{HOST_VARIABLE}={host}", _REACHABLE)


@error(
    "side-channel-port",
    f"A {PORT_VARIABLE} that is no port, or too high for its data-parallel ranks",
    "Each data-parallel rank listens at a port of its own, from this one on; the engine does not start.",
)
def side_channel_port(setup: EngineSetup) -> Iterator[Symptom]:
    value = setup.variables.get(PORT_VARIABLE)
    ports = setup.side_channel_ports
    if value is not None and not value.startswith("$") and (not ports or ports[0] < 1 or ports[-1] > 65535):
        yield Symptom(f"{PORT_VARIABLE}={value}", f"set {PORT_VARIABLE} to a free port, such as 5600")


@warning(
    "rust-frontend",
    "VLLM_USE_RUST_FRONTEND=1",
    "It refuses statistics with fields that it does not know: kvlease's metrics and NIXL's are not on /metrics.",
)
def rust_frontend(setup: EngineSetup) -> Iterator[Symptom]:
    value = setup.variables.get("VLLM_USE_RUST_FRONTEND", "0")
    if value not in ("", "0"):
        yield Symptom(
            f"VLLM_USE_RUST_FRONTEND={value}",
            "unset it; or switch on kvlease's own listener, which has them too (docs/operate/configure.md)",
        )


def plugins(variables: Mapping[str, str]) -> list[str] | None:
    """Returns the plugins that VLLM_PLUGINS allows; None where all are loaded."""
    value = variables.get(PLUGINS_VARIABLE)
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@error(
    "plugin-left-out",
    f"A {PLUGINS_VARIABLE} without kvlease, where its plugin is needed",
    "vLLM loads the named plugins alone: it does not know the connector, or runs its own one, and reads are unfenced.",
)
def plugin_left_out(setup: EngineSetup) -> Iterator[Symptom]:
    allowed = plugins(setup.variables)
    if allowed is None or PLUGIN in allowed:
        return
    change = f"set {PLUGINS_VARIABLE}={','.join([*allowed, PLUGIN])}"
    if setup.variables.get(REPLACES) == "1":
        yield Symptom(f"{PLUGINS_VARIABLE}={','.join(allowed)} and {REPLACES}=1", change)
    elif setup.leased and "kv_connector_module_path" not in setup.connector:
        yield Symptom(
            f"{PLUGINS_VARIABLE}={','.join(allowed)}, and no kv_connector_module_path",
            f'{change}; or write "kv_connector_module_path": "kvlease.vllm"',
        )


@error(
    "drain-not-served",
    f"A preStop hook that asks vLLM's API server for /v1/kvlease, and {PLUGINS_VARIABLE} that does not name kvlease",
    "The routes are opt-in: the hook gets 404, and the engine is ended with leases out.",
)
def drain_not_served(setup: EngineSetup) -> Iterator[Symptom]:
    hook = (setup.pod.pre_stop if setup.pod is not None else None) or ""
    allowed = plugins(setup.variables)
    listens = LISTEN in setup.extra
    if "/v1/kvlease" in hook and not listens and (allowed is None or PLUGIN not in allowed):
        given = "not set" if allowed is None else ",".join(allowed)
        yield Symptom(
            f"{PLUGINS_VARIABLE} is {given}", f"set {PLUGINS_VARIABLE}={','.join([*(allowed or []), PLUGIN])}"
        )


@error(
    "listen-without-token",
    f"A {LISTEN} beyond this machine without {TOKEN_VARIABLE}",
    "Whoever reaches the port could drain the engine and end its leases: kvlease refuses to start so.",
)
def listen_without_token(setup: EngineSetup) -> Iterator[Symptom]:
    where = setup.extra.get(LISTEN)
    if isinstance(where, str) and TOKEN_VARIABLE not in setup.variables and not is_loopback(where.rpartition(":")[0]):
        yield Symptom(
            f"{LISTEN} {where!r}, and no {TOKEN_VARIABLE}",
            f"set {TOKEN_VARIABLE}, from a secret; or listen at 127.0.0.1",
        )


@error(
    "replaces-nixl",
    f"A {REPLACES} that is neither 1 nor 0",
    "The engine does not start with it, so that nobody runs stock by mistake.",
)
def replaces_nixl(setup: EngineSetup) -> Iterator[Symptom]:
    value = setup.variables.get(REPLACES, "")
    if value not in ("", "0", "1") and not value.startswith(LATER):
        yield Symptom(f"{REPLACES}={value}", f"set {REPLACES}=1, or unset it")


@warning(
    "otel-endpoint",
    "An OTEL_EXPORTER_OTLP_TRACES_ENDPOINT without --otlp-traces-endpoint",
    "vLLM hands a request's trace to its scheduler only with the argument: kvlease's spans would join no trace.",
)
def otel_endpoint(setup: EngineSetup) -> Iterator[Symptom]:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        value = setup.variables.get(name)
        if value and setup.arguments is not None and "otlp-traces-endpoint" not in setup.arguments:
            yield Symptom(f"{name}={value}", f"add --otlp-traces-endpoint {value}")
            return


_LOCAL = {"sm", "shm", "mm", "posix", "sysv", "cma", "xpmem", "knem", "self", "cuda", "cuda_ipc", "cuda_copy"}


@warning(
    "ucx-tls",
    "A UCX_TLS without any transport between machines",
    "NIXL cannot read from a prefill engine on another machine; on one machine it is right.",
)
def ucx_tls(setup: EngineSetup) -> Iterator[Symptom]:
    value = setup.variables.get("UCX_TLS", "")
    named = {name.strip() for name in value.split(",") if name.strip()}
    if named and named <= _LOCAL:
        yield Symptom(f"UCX_TLS={value}", f"unset it; or set UCX_TLS={value},tcp, or ,rc with InfiniBand or RoCE")


CHECKS: tuple[Check[EngineSetup], ...] = (
    side_channel_host,
    side_channel_loopback,
    side_channel_port,
    rust_frontend,
    plugin_left_out,
    drain_not_served,
    listen_without_token,
    replaces_nixl,
    otel_endpoint,
    ucx_tls,
)
