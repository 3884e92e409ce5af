"""Subjects that nothing is wrong with, and ways to make something wrong with them."""

from collections.abc import Mapping
from typing import Any

from kvlease.admin.answers import EngineHealth, HeldLeases, Holding, LeaseSettings, SessionCounts, Unheard
from kvlease.doctor.machine import Machine
from kvlease.doctor.running import RunningEngine
from kvlease.doctor.setups import EngineSetup, PodSettings
from kvlease.metrics.scraped import Metrics

P, D = "http://p:8000", "http://d:8000"
DRAIN = "curl -sS -X POST http://localhost:8000/v1/kvlease/drain?wait=60"
NONE = Holding(0, 0, 0, 0)


def machine(variables: Mapping[str, str] | None = None, **more: Any) -> Machine:
    installed = {"kvlease": "0.1.0", "vllm": "0.32.0", "nixl": "1.5.1", "torch": "2.13.0", "python": "3.11.7"}
    usual: dict[str, Any] = {
        "versions": installed | more.pop("versions", {}),
        "plugins": {"vllm.general_plugins": ("kvlease", "lora")},
        "backends": ("POSIX", "UCX"),
        "interfaces": frozenset({"eth0", "mlx5_0"}),
    }
    return Machine(variables=variables or {}, **(usual | more))


def setup(
    role: str = "kv_producer",
    name: str = "",
    arguments: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    pod: PodSettings | None = None,
    framework: str = "vLLM",
    **transfer: Any,
) -> EngineSetup:
    """A configuration without fault; `transfer` changes --kv-transfer-config, `extra` kvlease's settings."""
    config: dict[str, Any] = {
        "kv_connector": "LeasedNixlConnector",
        "kv_connector_module_path": "kvlease.vllm",
        "kv_role": role,
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": dict(extra or {}),
    } | transfer
    usual = {"VLLM_NIXL_SIDE_CHANNEL_HOST": f"10.0.0.{1 if role == 'kv_producer' else 2}"}
    return EngineSetup(
        name or role,
        {key: value for key, value in config.items() if value is not None},
        {"shutdown-timeout": "30"} | dict(arguments or {}),
        {key: value for key, value in (usual | dict(variables or {})).items() if value},
        pod,
        framework,
    )


def pod(pre_stop: str | None = DRAIN, grace_s: float = 120.0) -> PodSettings:
    return PodSettings(pre_stop, grace_s, "prefill")


def health(version: str = "0.1.0", draining: bool = False, **settings: float) -> EngineHealth:
    usual: dict[str, Any] = {
        "duration_s": 30.0,
        "extension_s": 20.0,
        "renew_interval_s": 5.0,
        "orphan_grace_s": 0.0,
        "max_age_s": 600.0,
        "stall_limit_s": 120.0,
        "probe_interval_s": 0.25,
        "fence_slots": 100,
    }
    return EngineHealth(
        rank=0,
        engine_id="e",
        incarnation="0" * 16,
        version=version,
        agent="up",
        draining=draining,
        uptime_s=1.0,
        settings=LeaseSettings(**(usual | settings)),
        held=HeldLeases(0, 0, 0, 0, claimed=0),
        lapsed=NONE,
        unheard=Unheard(NONE, NONE),
        pool_blocks=100,
        sessions=SessionCounts(0, 0),
    )


def engine(page: str = "", url: str = P, of: EngineHealth | None = None, vllm: str = "0.32.0") -> RunningEngine:
    """An engine without fault, with these lines on its page of metrics as well."""
    text = f"kvlease:agent_up 1\nkvlease:grants_total 7\n{page}"
    return RunningEngine(url, None, Metrics.parse(text), (of or health(),), "", vllm)


def histogram(name: str, bounds: Mapping[str, int]) -> str:
    """The lines of a histogram, by its cumulative counts."""
    counted = list(bounds.values())[-1]
    lines = [f'{name}_bucket{{le="{bound}"}} {number}' for bound, number in bounds.items()]
    return "\n".join([f"# TYPE {name} histogram", *lines, f"{name}_sum 1", f"{name}_count {counted}"]) + "\n"
