"""The checks on one engine's configuration."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from kvlease.doctor.findings import Check, Symptom, error, warning
from kvlease.doctor.setups import EngineSetup
from kvlease.errors import ConfigError, UnsupportedEngine
from kvlease.protocol.config import COMPARE_MEDIA, PREFIX
from kvlease.vllm.plugin import MODULE, NAME, STOCK_NAMES
from kvlease.vllm.settings import OLD_VARIABLE, refuse_unguaranteed, settings_of

ROLES = ("kv_producer", "kv_consumer", "kv_both")
_FRAMEWORK_NAME = f'"kv_connector": "{STOCK_NAMES[0]}", "kv_connector_module_path": "{MODULE}"'
_POSTS = re.compile(r"POST|\s(-d|--data|--json|--post-)", re.IGNORECASE)
"""The marks of a request that is a POST: with curl, wget, or a program's own words."""
_PARALLEL = ("pipeline_parallel_size", "prefill_context_parallel_size", "decode_context_parallel_size")


@error("unreadable-config", "A --kv-transfer-config that is no JSON object", "The engine does not start with it.")
def unreadable_config(setup: EngineSetup) -> Iterator[Symptom]:
    if setup.unreadable is not None:
        yield Symptom(
            f"--kv-transfer-config {setup.unreadable}",
            "put the JSON in single quotes: "
            f"""--kv-transfer-config '{{"kv_connector": "{NAME}", "kv_role": "kv_producer"}}'""",
        )


@warning(
    "not-kvlease",
    "A connector that is not kvlease's",
    "A late read is not noticed, and answered wrongly with HTTP 200: nothing here is leased.",
)
def not_kvlease(setup: EngineSetup) -> Iterator[Symptom]:
    if not setup.leased and setup.unreadable is None:
        name, module = setup.transfer.get("kv_connector"), setup.transfer.get("kv_connector_module_path")
        beside = f" of {module}" if module else ""
        yield Symptom(
            f"kv_connector {name}{beside}" if name else "no --kv-transfer-config",
            f'write "kv_connector": "{NAME}", "kv_connector_module_path": "{MODULE}"; or set KVLEASE_REPLACES_NIXL=1',
        )


@error("role", "A kv_role that is none", "vLLM refuses to start with a connector and no role.")
def role(setup: EngineSetup) -> Iterator[Symptom]:
    found = setup.transfer.get("kv_role")
    if setup.transfer.get("kv_connector") and found not in ROLES:
        yield Symptom(
            "no kv_role" if found is None else f"kv_role {found!r}",
            'write "kv_role": "kv_producer" on prefill engines, "kv_consumer" on decode engines, or "kv_both"',
        )


@error("settings", "Settings of kvlease that cannot be meant", "The engine does not start with them.")
def settings(setup: EngineSetup) -> Iterator[Symptom]:
    if not setup.leased:
        return
    try:
        settings_of(setup.extra, setup.variables)
    except ConfigError as fault:
        yield Symptom(str(fault), "change it as the sentence says; docs/operate/configure.md has all settings")


@error(
    "misplaced-settings",
    "Settings of kvlease beside kv_connector_extra_config instead of in it",
    "vLLM refuses a key of --kv-transfer-config that it does not know, and kvlease does not look for it there.",
)
def misplaced_settings(setup: EngineSetup) -> Iterator[Symptom]:
    for key, value in setup.connector.items():
        if key.startswith(PREFIX):
            inside = json.dumps({key: value})
            yield Symptom(f"{key} {value!r} beside kv_connector", f'write "kv_connector_extra_config": {inside}')


@warning(
    "old-variable",
    f"{OLD_VARIABLE}, the timeout of vLLM before leases, that sets the term",
    "A timeout of those days is minutes long, and a lease needs seconds: lost requests keep their blocks that long.",
)
def old_variable(setup: EngineSetup) -> Iterator[Symptom]:
    value = setup.variables.get(OLD_VARIABLE)
    if setup.leased and value is not None and "kv_lease_duration" not in setup.extra:
        yield Symptom(
            f"{OLD_VARIABLE}={value}", 'unset it, and write {"kv_lease_duration": 30} into kv_connector_extra_config'
        )


@error(
    "refused",
    "What kvlease refuses to run with: pipeline or context parallelism, sleep mode and the like",
    "The engine does not start: kvlease could not keep its promises.",
)
def refused(setup: EngineSetup) -> Iterator[Symptom]:
    if not setup.leased:
        return
    arguments = setup.arguments or {}

    def is_set(flag: str) -> bool:
        return flag in arguments and arguments[flag].lower() != "false"

    experts = is_set("enable-return-routed-experts")
    configured: Any = SimpleNamespace(
        kv_transfer_config=SimpleNamespace(get_from_extra_config=lambda key, default: setup.extra.get(key, default)),
        parallel_config=SimpleNamespace(
            enable_fault_tolerance=is_set("enable-fault-tolerance"),
            **{name: int(setup.number(name.replace("_", "-"), 1)) for name in _PARALLEL},
        ),
        model_config=SimpleNamespace(
            enable_sleep_mode=is_set("enable-sleep-mode"), enable_return_routed_experts=experts
        ),
    )
    try:
        refuse_unguaranteed(configured)
    except UnsupportedEngine as reason:
        found, _, change = str(reason).partition(". ")
        found, _, _ = found.partition(": ")
        yield Symptom(found, change[0].lower() + change[1:].removesuffix("."))


@error(
    "framework-name",
    "The connector's name, where a framework knows NixlConnector alone",
    "Dynamo refuses other names, and Ray sets no port, no host and no engine id for them (docs/decisions/0016).",
)
def framework_name(setup: EngineSetup) -> Iterator[Symptom]:
    if setup.framework != "vLLM" and setup.connector.get("kv_connector") == NAME:
        yield Symptom(f"kv_connector {NAME} under {setup.framework}", f"write {_FRAMEWORK_NAME}")


@warning(
    "load-failure-policy",
    'A decode engine with kv_load_failure_policy "fail", vLLM\'s default',
    "Each request whose prefill must not be read is answered with HTTP 500, and not computed by the decode engine.",
)
def load_failure_policy(setup: EngineSetup) -> Iterator[Symptom]:
    policy = setup.transfer.get("kv_load_failure_policy", "fail")
    # Where decode engines are given stand-ins for images, they cannot compute a prompt, and `fail` is right.
    if setup.leased and setup.consumes and policy == "fail" and setup.extra.get(COMPARE_MEDIA, True):
        given = "" if "kv_load_failure_policy" in setup.transfer else " (not given)"
        yield Symptom(
            f"kv_load_failure_policy fail{given}",
            'write "kv_load_failure_policy": "recompute" into --kv-transfer-config of decode engines',
        )


@error(
    "recompute-from-stand-ins",
    'kv_load_failure_policy "recompute" with kv_lease_compare_media false',
    "A decode engine that is given stand-ins for images would compute its answer from them, and answer wrongly.",
)
def recompute_from_stand_ins(setup: EngineSetup) -> Iterator[Symptom]:
    recomputes = setup.transfer.get("kv_load_failure_policy") == "recompute"
    if setup.leased and setup.consumes and recomputes and setup.extra.get(COMPARE_MEDIA) is False:
        yield Symptom(
            "kv_load_failure_policy recompute and kv_lease_compare_media false",
            'write "kv_load_failure_policy": "fail"; or leave kv_lease_compare_media out, if images are the real ones',
        )


# -- the end of an engine ---------------------------------------------------------------------------------------------


def drains(hook: str | None) -> bool:
    """Tells whether a preStop hook waits until kvlease's leases have been read."""
    # A GET is answered at once, and drains nothing; without a wait, a POST is answered at once as well.
    return hook is not None and "kvlease/drain" in hook and _POSTS.search(hook) is not None and waits_s(hook) > 0


def waits_s(hook: str | None) -> float:
    """Returns the seconds for which a preStop hook may take its time."""
    found = re.search(r"(?:wait=|sleep )(\d+(?:\.\d+)?)", hook or "")
    return float(found[1]) if found is not None else 0.0


def term_s(setup: EngineSetup) -> float:
    """Returns the term of its leases, or the default's where its settings are no good."""
    try:
        return settings_of(setup.extra, setup.variables)[0].duration_s
    except ConfigError:
        return settings_of({}, {})[0].duration_s


@warning(
    "shutdown-timeout",
    "A prefill engine without --shutdown-timeout, or with one that is shorter than its term",
    "At SIGTERM it ends while leases are out: their requests are computed again, or fail.",
)
def shutdown_timeout(setup: EngineSetup) -> Iterator[Symptom]:
    if not (setup.leased and setup.produces) or setup.arguments is None or setup.framework != "vLLM":
        return
    hook = setup.pod.pre_stop if setup.pod is not None else None
    timeout, term = setup.number("shutdown-timeout", 0), term_s(setup)
    if timeout < term and not drains(hook):
        given = f"{timeout:g}" if "shutdown-timeout" in setup.arguments else "not given, so 0"
        yield Symptom(f"--shutdown-timeout {given}; kv_lease_duration is {term:g}", f"add --shutdown-timeout {term:g}")


@warning(
    "pre-stop",
    "A prefill pod whose preStop hook does not drain it",
    "Kubernetes ends it while new prefills still come: their leases are granted by an engine that is about to go.",
)
def pre_stop(setup: EngineSetup) -> Iterator[Symptom]:
    if not (setup.leased and setup.produces) or setup.pod is None or drains(setup.pod.pre_stop):
        return
    port = f"{setup.number('port', 8000):g}"
    wait = f"{term_s(setup) * 2:g}"
    hook = json.dumps(["curl", "-sS", "-X", "POST", f"http://localhost:{port}/v1/kvlease/drain?wait={wait}"])
    yield Symptom(
        f"preStop {setup.pod.pre_stop}" if setup.pod.pre_stop else "no lifecycle.preStop",
        f"lifecycle: {{preStop: {{exec: {{command: {hook}}}}}}}",
    )


@error(
    "grace-period",
    "A terminationGracePeriodSeconds that is shorter than the preStop hook and --shutdown-timeout together",
    "Kubernetes kills the engine when the period is over, with leases out, whatever it is waiting for.",
)
def grace_period(setup: EngineSetup) -> Iterator[Symptom]:
    if not (setup.leased and setup.produces) or setup.pod is None:
        return
    waits, timeout = waits_s(setup.pod.pre_stop), setup.number("shutdown-timeout", 0)
    if waits + timeout >= setup.pod.grace_s and waits + timeout > 0:
        yield Symptom(
            f"terminationGracePeriodSeconds {setup.pod.grace_s:g}; preStop waits {waits:g} s, "
            f"--shutdown-timeout is {timeout:g}",
            f"terminationGracePeriodSeconds: {waits + timeout + 10:g}",
        )


CHECKS: tuple[Check[EngineSetup], ...] = (
    unreadable_config,
    not_kvlease,
    role,
    settings,
    misplaced_settings,
    old_variable,
    refused,
    framework_name,
    load_failure_policy,
    recompute_from_stand_ins,
    shutdown_timeout,
    pre_stop,
    grace_period,
)
