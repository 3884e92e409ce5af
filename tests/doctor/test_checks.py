"""Each check fires at what it is for, and is silent where nothing is wrong."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kvlease.console.exits import Exit
from kvlease.doctor.findings import Severity, examine, exit_status
from kvlease.doctor.hand_off import HandOff, TrialAnswer
from kvlease.doctor.running import RunningEngine
from kvlease.doctor.setups import EngineSetup
from kvlease.doctor.table import TABLE
from kvlease.metrics.scraped import Metrics
from kvlease.vllm.text import Lack
from tests.doctor.subjects import D, P, engine, health, histogram, machine, pod, setup

CHECKS = {check.id: check for checks in TABLE.values() for check in checks}
OFFER = {"kv_lease": "1:2", "remote_host": "10.0.0.1", "remote_port": 5600, "do_remote_prefill": True}
GOOD = HandOff(TrialAnswer(P, 200, "", OFFER), None, TrialAnswer(D, 200, ""), {"granted": 1, "claimed": 1, "intact": 1})
ROUTED = HandOff(None, None, TrialAnswer("http://r", 200, ""), GOOD.rose, by_router=True)
SOUND: Mapping[str, Any] = {
    "this machine": machine({"VLLM_PLUGINS": "kvlease,lora", "UCX_NET_DEVICES": "mlx5_0:1,eth*"}),
    "a configuration": setup(
        variables={
            "VLLM_PLUGINS": "kvlease",
            "VLLM_USE_RUST_FRONTEND": "0",
            "KVLEASE_REPLACES_NIXL": "1",
            "UCX_TLS": "rc,cuda_copy",
            "VLLM_NIXL_SIDE_CHANNEL_PORT": "5700",
        },
        pod=pod(),
    ),
    "configurations together": [setup("kv_producer", extra={"kv_lease_duration": 20}), setup("kv_consumer")],
    "a running engine": engine(
        histogram("vllm:inter_token_latency_seconds", {"0.1": 900, "1.0": 1000, "+Inf": 1000})
        + histogram("kvlease:agent_lag_seconds", {"0.1": 1000, "1.0": 1000, "+Inf": 1000})
        + histogram("kvlease:claim_wait_seconds", {"0.1": 1000, "1.0": 1000, "+Inf": 1000})
        + 'kvlease:renewals_total{direction="sent"} 5\n'
    ),
    "running engines together": [engine(), engine(url=D)],
    "a trial request": GOOD,
}
STOCK: dict[str, Any] = {"kv_connector": "NixlConnector", "kv_connector_module_path": None}
DEAD = "kvlease:agent_up 0\nkvlease:grants_total 1\n"
FRESH = "kvlease:agent_up 0\nkvlease:grants_total 0\nkvlease:grants_created 1.79e9\n"
BOTH_HOSTS = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "10.0.0.1"}
STEPS = histogram("vllm:inter_token_latency_seconds", {"1.0": 999, "80.0": 999, "+Inf": 1000})
LAG = histogram("kvlease:agent_lag_seconds", {"1.0": 999, "10.0": 999, "+Inf": 1000})
WAITS = histogram("kvlease:claim_wait_seconds", {"1.0": 9000, "30.0": 9990, "50.0": 10000, "+Inf": 10000})


def offered(**changed: Any) -> HandOff:
    params = {key: value for key, value in (OFFER | changed).items() if value is not None}
    return replace(GOOD, prefill=TrialAnswer(P, 200, "", params))


FAULTY: Mapping[str, tuple[Any, str]] = {
    "vllm-version": (machine(versions={"vllm": "0.29.1"}), "vLLM 0.29.1"),
    "vllm-tried-anyway": (machine({"KVLEASE_ANY_VLLM": "1"}, versions={"vllm": "0.34.0"}), "vLLM 0.34.0"),
    "vllm-surface": (machine(lacks=(Lack("missing", "vllm.x:Y"),) * 7), "missing: vllm.x:Y"),
    "no-nixl": (machine(versions={"nixl": "not installed"}), "nixl is not installed"),
    "no-ucx": (machine(backends=("POSIX",)), "NIXL's backends are POSIX"),
    "package-versions": (machine(unmet=("torch 2.12.0 (vLLM asks for ==2.13.0)",)), "torch 2.12.0"),
    "no-plugin": (machine(plugins={}), "no entry point kvlease"),
    "plugins-switched-off": (machine({"VLLM_PLUGINS": "kvlease"}), "VLLM_PLUGINS=kvlease leaves out lora"),
    "ucx-net-devices": (machine({"UCX_NET_DEVICES": "mlx5_9:1"}), "UCX_NET_DEVICES=mlx5_9:1: no mlx5_9"),
    "port-taken": (machine(taken={5600: "--config"}), "port 5600 is taken"),
    "unreadable-config": (replace(setup(), unreadable="'{' is no JSON"), "--kv-transfer-config '{'"),
    "not-kvlease": (setup(**STOCK), "kv_connector NixlConnector"),
    "role": (setup(kv_role="producer"), "kv_role 'producer'"),
    "settings": (setup(extra={"kv_lease_duration": 0.1}), "kv_lease_duration is 0.1"),
    "misplaced-settings": (setup(kv_lease_duration=9), "kv_lease_duration 9 beside kv_connector"),
    "old-variable": (setup(variables={"VLLM_NIXL_ABORT_REQUEST_TIMEOUT": "480"}), "ABORT_REQUEST_TIMEOUT=480"),
    "refused": (setup(arguments={"pipeline-parallel-size": "2"}), "pipeline_parallel_size is 2"),
    "framework-name": (setup(framework="Dynamo"), "LeasedNixlConnector under Dynamo"),
    "load-failure-policy": (
        setup("kv_consumer", kv_load_failure_policy=None),
        "kv_load_failure_policy fail (not given)",
    ),
    "recompute-from-stand-ins": (setup("kv_consumer", extra={"kv_lease_compare_media": False}), "compare_media false"),
    "shutdown-timeout": (setup(arguments={"shutdown-timeout": "5"}), "--shutdown-timeout 5; kv_lease_duration is 30"),
    "pre-stop": (setup(pod=pod("sleep 15")), "preStop sleep 15"),
    "grace-period": (setup(pod=pod(grace_s=90.0)), "terminationGracePeriodSeconds 90; preStop waits 60 s"),
    "side-channel-host": (setup(variables={"VLLM_NIXL_SIDE_CHANNEL_HOST": "0.0.0.0"}), "HOST=0.0.0.0"),
    "side-channel-loopback": (setup(variables={"VLLM_NIXL_SIDE_CHANNEL_HOST": ""}), "not set, so localhost"),
    "side-channel-port": (
        setup(variables={"VLLM_NIXL_SIDE_CHANNEL_PORT": "65530"}, arguments={"data-parallel-size": "8"}),
        "PORT=65530",
    ),
    "rust-frontend": (setup(variables={"VLLM_USE_RUST_FRONTEND": "1"}), "VLLM_USE_RUST_FRONTEND=1"),
    "plugin-left-out": (setup(variables={"VLLM_PLUGINS": "lora", "KVLEASE_REPLACES_NIXL": "1"}), "VLLM_PLUGINS=lora"),
    "drain-not-served": (setup(pod=pod()), "VLLM_PLUGINS is not set"),
    "listen-without-token": (setup(extra={"kv_lease_listen": "0.0.0.0:9600"}), "kv_lease_listen '0.0.0.0:9600'"),
    "replaces-nixl": (setup(variables={"KVLEASE_REPLACES_NIXL": "yes"}), "KVLEASE_REPLACES_NIXL=yes"),
    "otel-endpoint": (setup(variables={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://o:4317"}), "http://o:4317"),
    "ucx-tls": (setup(variables={"UCX_TLS": "sm,self"}), "UCX_TLS=sm,self"),
    "ports-meet": ([setup(variables=BOTH_HOSTS), setup("kv_consumer", variables=BOTH_HOSTS)], "PORT 5600 of"),
    "one-side-stock": (
        [setup(), setup("kv_consumer", kv_connector="NixlConnector", kv_connector_module_path=None)],
        "kv_consumer",
    ),
    "engines-differ": (
        [setup(arguments={"block-size": "16"}), setup("kv_consumer", arguments={"block-size": "32"})],
        "--block-size 16 (kv_producer), 32 (kv_consumer)",
    ),
    "setting-without-effect": ([setup(), setup("kv_consumer", extra={"kv_lease_duration": 9})], "kv_lease_duration 9"),
    "stall-limit": ([setup(), setup("kv_consumer", extra={"kv_lease_stall_limit": 10})], "kv_lease_stall_limit 10;"),
    "unreachable": (RunningEngine(P, unreachable="connection refused"), "connection refused"),
    "no-metrics": (replace(engine(), page=Metrics.parse("vllm:x 1\n")), "no metric on /metrics begins with kvlease:"),
    "no-admin": (replace(engine(), health=(), no_health="404"), "404"),
    "agent-down": (replace(engine(), page=Metrics.parse(DEAD), health=()), "kvlease:agent_up is 0"),
    "draining": (engine(of=health(draining=True)), "kvlease:draining is 1"),
    "unfenced-reads": (engine("kvlease:unfenced_reads_total 3\n"), "kvlease:unfenced_reads_total 3"),
    "late-reads": (engine('kvlease:fence_checks_total{verdict="revoked"} 2\n'), 'verdict="revoked"} 2'),
    "wasted-prefills": (engine('kvlease:wasted_prefill_tokens_total{reason="lost"} 512\n'), "lost 512"),
    "unheard-consumers": (engine('kvlease:unheard_leases{consumer="dead"} 4\n'), "dead 4"),
    "transport-failures": (engine('kvlease:transport_failures_total{operation="send"} 1\n'), "send 1"),
    "refused-messages": (engine('kvlease:refused_total{kind="magic"} 1\n'), "magic 1"),
    "declined-offers": (engine('kvlease:declined_offers_total{reason="no_slot"} 1\n'), "no_slot 1"),
    "other-prompts": (engine('kvlease:other_prompts_total{reason="length"} 1\n'), "length 1"),
    "long-steps": (engine('kvlease:renewals_total{direction="sent"} 5\n' + STEPS), "a step of over 80 s"),
    "late-agent": (engine(LAG), "kvlease:agent_lag_seconds above 10 s"),
    "term-too-short": (engine(WAITS), "Of 10,000 claims 10 came too late"),
    "vllm-versions-differ": ([engine(), engine(url=D, vllm="0.33.0")], f"vLLM 0.33.0 ({D})"),
    "versions-differ": ([engine(), engine(url=D, of=health("0.2.0"))], f"kvlease 0.2.0 ({D})"),
    "settings-differ": ([engine(), engine(url=D, of=health(duration_s=9.0))], f"kv_lease_duration 9 ({D})"),
    "trial-failed": (HandOff(TrialAnswer(P, 500, "boom")), "HTTP 500 to a completion: boom"),
    "no-offer": (HandOff(TrialAnswer(P, 200, "{}")), "no kv_transfer_params"),
    "no-lease": (offered(kv_lease=None), "no kv_lease in kv_transfer_params"),
    "remote-host": (offered(remote_host="127.0.0.1"), "remote_host 127.0.0.1"),
    "side-channel-unreachable": (replace(GOOD, side_channel="timed out"), "10.0.0.1:5600: timed out"),
    "lease-dropped": (replace(ROUTED, rose={"granted": 1, "unfenced": 1}), "unfenced_reads_total rose"),
    "not-read": (replace(GOOD, rose={"granted": 1, "claimed": 1, "lost": 1}), "rose: lost, claimed"),
    "router-without-prefill": (replace(ROUTED, rose={}), "grants_total did not rise"),
}


@pytest.mark.parametrize("id", FAULTY)
def test_a_check_fires_at_what_it_is_for(id: str) -> None:
    subject, said = FAULTY[id]
    found = list(CHECKS[id].examine(subject, "here"))
    assert found, "it is silent"
    assert said in found[0].found
    assert all((each.id, each.why) == (id, CHECKS[id].why) and each.change and each.place for each in found)


@pytest.mark.parametrize("of", TABLE)
def test_no_check_fires_where_nothing_is_wrong(of: str) -> None:
    assert examine(TABLE[of], SOUND[of], "here") == []


@pytest.mark.parametrize("subject", [setup("kv_consumer"), setup("kv_both", variables={"VLLM_PLUGINS": "kvlease"})])
def test_a_sound_engine_of_any_role_is_left_alone(subject: EngineSetup) -> None:
    assert examine(TABLE["a configuration"], subject, "here") == []


def test_a_sound_router_is_left_alone() -> None:
    assert examine(TABLE["a trial request"], ROUTED, "here") == []


def test_every_check_has_a_subject_that_it_fires_at_and_an_id_of_its_own() -> None:
    assert CHECKS.keys() == FAULTY.keys()
    assert len(CHECKS) == sum(map(len, TABLE.values()))
    assert SOUND.keys() == TABLE.keys()


@pytest.mark.parametrize("id", FAULTY)
def test_what_a_check_says_is_a_name_and_a_sentence(id: str) -> None:
    check = CHECKS[id]
    assert check.finds[-1] != "."
    assert check.why[0].isupper() or check.why.startswith(("kv_", "vLLM", "kvlease"))
    assert check.why.endswith(".")


def test_the_exit_status_is_that_of_the_worst_finding() -> None:
    error = list(CHECKS["role"].examine(FAULTY["role"][0], ""))
    warning = list(CHECKS["pre-stop"].examine(FAULTY["pre-stop"][0], ""))
    assert [found.severity for found in error + warning] == [Severity.ERROR, Severity.WARNING]
    assert [exit_status(found) for found in ([], warning, error + warning)] == [Exit.OK, Exit.FOUND, 2]


# -- finer points -----------------------------------------------------------------------------------------------------


def fires(id: str, subject: Any) -> bool:
    return bool(list(CHECKS[id].examine(subject, "here")))


BAD_PORT = {"VLLM_NIXL_SIDE_CHANNEL_PORT": "0"}
LOCAL = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "localhost"}
NOT_HERE = {"vllm": "not installed"}
OTEL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://o:4317"}
SHORT = {"shutdown-timeout": "0"}
STAND_INS = {"kv_lease_compare_media": False}
SILENT: tuple[tuple[str, Any], ...] = (
    ("vllm-version", machine(versions=NOT_HERE)),
    ("vllm-version", machine({"KVLEASE_ANY_VLLM": "1"}, versions={"vllm": "0.34.0"})),
    ("vllm-tried-anyway", machine({"KVLEASE_ANY_VLLM": "1"}, versions=NOT_HERE)),
    ("vllm-tried-anyway", machine({"KVLEASE_ANY_VLLM": "1"})),
    ("vllm-tried-anyway", machine(versions={"vllm": "0.34.0"})),
    ("no-nixl", machine(versions=NOT_HERE | {"nixl": "not installed"})),
    ("no-plugin", machine(versions=NOT_HERE, plugins={})),
    ("ucx-net-devices", machine({"UCX_NET_DEVICES": "all"})),
    ("old-variable", setup(variables={"VLLM_NIXL_ABORT_REQUEST_TIMEOUT": "480"}, **STOCK)),
    ("old-variable", setup(variables={"VLLM_NIXL_ABORT_REQUEST_TIMEOUT": "480"}, extra={"kv_lease_duration": 30})),
    ("load-failure-policy", setup("kv_consumer", **STOCK, kv_load_failure_policy="fail")),
    ("load-failure-policy", setup("kv_producer", kv_load_failure_policy="fail")),
    ("recompute-from-stand-ins", setup("kv_consumer", extra=STAND_INS, **STOCK)),
    ("recompute-from-stand-ins", setup("kv_producer", extra=STAND_INS)),
    ("shutdown-timeout", setup("kv_consumer", arguments=SHORT)),
    ("shutdown-timeout", setup(arguments=SHORT, framework="Dynamo")),
    ("shutdown-timeout", replace(setup(), arguments=None)),
    ("pre-stop", setup("kv_consumer", pod=pod(None))),
    ("grace-period", setup("kv_consumer", pod=pod(grace_s=10.0))),
    ("side-channel-loopback", setup("kv_consumer", variables=LOCAL)),
    ("side-channel-loopback", setup(variables=LOCAL, pod=pod())),
    ("side-channel-loopback", setup(variables=LOCAL, framework="Ray")),
    ("side-channel-loopback", replace(setup(variables=LOCAL), arguments=None)),
    ("side-channel-port", setup(variables={"VLLM_NIXL_SIDE_CHANNEL_PORT": "$(PORT)"})),
    ("plugin-left-out", setup(variables={"VLLM_PLUGINS": "lora"})),
    ("plugin-left-out", setup(variables={"VLLM_PLUGINS": "lora", "KVLEASE_REPLACES_NIXL": "0"}, **STOCK)),
    ("drain-not-served", setup(pod=pod(), extra={"kv_lease_listen": "127.0.0.1:9600"})),
    ("otel-endpoint", replace(setup(variables=OTEL), arguments=None)),
    ("otel-endpoint", setup(variables=OTEL, arguments={"otlp-traces-endpoint": "http://o:4317"})),
    ("ucx-tls", setup(variables={"UCX_TLS": "^sm"})),
    ("ucx-tls", setup(variables={"UCX_TLS": "all"})),
    ("ports-meet", [replace(setup(variables=BOTH_HOSTS), arguments=None)] * 2),
    ("one-side-stock", [setup(**STOCK)]),
    ("one-side-stock", [setup(**STOCK), setup("kv_consumer", **STOCK)]),
    ("one-side-stock", [setup("kv_consumer"), setup("kv_consumer", **STOCK)]),
    ("stall-limit", [setup(), setup("kv_producer", extra={"kv_lease_stall_limit": 10})]),
    ("stall-limit", [setup("kv_consumer", extra={"kv_lease_stall_limit": 10})]),
    # vLLM has shown no figure of kvlease's yet: the engine has made no step.
    ("agent-down", replace(engine(), page=Metrics.parse(FRESH), health=())),
    ("agent-down", replace(engine(), page=Metrics.parse(DEAD))),
    ("long-steps", engine(STEPS)),
    ("long-steps", replace(engine('kvlease:renewals_total{direction="sent"} 5\n' + STEPS), health=())),
    ("late-agent", replace(engine(LAG), health=())),
    ("term-too-short", RunningEngine(P)),
    ("term-too-short", engine(histogram("kvlease:claim_wait_seconds", {"1.0": 0, "+Inf": 0}))),
    ("no-lease", HandOff(TrialAnswer(P, 200, "{}"))),
    ("no-offer", HandOff(TrialAnswer(P, 500, "boom"))),
    ("not-read", replace(GOOD, rose={"lost": 1})),
    ("not-read", replace(GOOD, rose={"granted": 1, "unfenced": 1})),
    ("not-read", HandOff(TrialAnswer(P, 200, "", OFFER), None, None, {"granted": 1})),
    ("router-without-prefill", replace(GOOD, rose={})),
    ("router-without-prefill", HandOff(None, None, TrialAnswer("http://r", 500, ""), {}, by_router=True)),
)


@pytest.mark.parametrize(("id", "subject"), SILENT)
def test_a_check_is_silent_at_what_it_is_not_for(id: str, subject: Any) -> None:
    assert not fires(id, subject)


def test_a_port_that_is_none_is_found() -> None:
    assert fires("side-channel-port", setup(variables=BAD_PORT))
    assert fires("side-channel-port", setup(variables={"VLLM_NIXL_SIDE_CHANNEL_PORT": "many"}))


def test_the_health_of_an_engine_says_that_its_agent_is_dead() -> None:
    assert fires("agent-down", engine(of=msgspec.structs.replace(health(), agent="dead")))


def test_a_name_alone_needs_the_plugin() -> None:
    assert fires("plugin-left-out", setup(variables={"VLLM_PLUGINS": "lora"}, kv_connector_module_path=None))


def test_a_default_port_is_a_port_and_ranks_take_the_next_ones() -> None:
    one = setup(variables=BOTH_HOSTS | {"VLLM_NIXL_SIDE_CHANNEL_PORT": "5598"}, arguments={"data-parallel-size": "3"})
    assert fires("ports-meet", [one, setup("kv_consumer", variables=BOTH_HOSTS)])
    two = replace(one, arguments={"data-parallel-size": "2"})
    assert not fires("ports-meet", [two, setup("kv_consumer", variables=BOTH_HOSTS)])


def test_a_loopback_is_an_error_in_a_pod_and_a_warning_on_a_machine() -> None:
    local = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1"}
    assert fires("side-channel-host", setup(variables=local, pod=pod()))
    assert not fires("side-channel-host", setup(variables=local))
    assert fires("side-channel-loopback", setup(variables=local))
    assert not fires("side-channel-host", setup(variables={"VLLM_NIXL_SIDE_CHANNEL_HOST": "$(POD_IP)"}, pod=pod()))


def test_a_listener_of_this_machine_alone_needs_no_token() -> None:
    assert not fires("listen-without-token", setup(extra={"kv_lease_listen": "127.0.0.1:9600"}))
    token = {"KVLEASE_ADMIN_TOKEN": "x"}
    assert not fires("listen-without-token", setup(extra={"kv_lease_listen": "0.0.0.0:9600"}, variables=token))


def test_a_hook_that_only_asks_does_not_drain() -> None:
    url = "http://localhost:8000/v1/kvlease/drain"
    for hook in ("GET /v1/kvlease/drain?wait=60", f"curl -sS {url}?wait=60", f"curl -X POST {url}"):
        assert fires("pre-stop", setup(pod=pod(hook)))
    for hook in (f"curl -XPOST {url}?wait=60", f"curl -d '' {url}?wait=60", f"wget --post-data= {url}?wait=60"):
        assert not fires("pre-stop", setup(pod=pod(hook)))
    assert fires("pre-stop", setup(pod=pod(None)))


def test_a_drain_stands_in_for_a_shutdown_timeout() -> None:
    assert not fires("shutdown-timeout", setup(arguments={"shutdown-timeout": "0"}, pod=pod()))
    assert fires("shutdown-timeout", setup(arguments={"shutdown-timeout": "0"}))


def test_stand_ins_for_images_need_the_policy_fail() -> None:
    dynamo = setup("kv_consumer", extra={"kv_lease_compare_media": False}, kv_load_failure_policy="fail")
    assert not fires("load-failure-policy", dynamo)
    assert not fires("recompute-from-stand-ins", dynamo)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ({"enable-sleep-mode": ""}, {}),
        ({"enable-fault-tolerance": "true"}, {}),
        ({"enable-return-routed-experts": ""}, {}),
        ({"decode-context-parallel-size": "2"}, {}),
        ({}, {"bidirectional_kv_xfer": True}),
    ],
)
def test_whatever_kvlease_refuses_is_found(arguments: Mapping[str, str], extra: Mapping[str, Any]) -> None:
    (found,) = CHECKS["refused"].examine(setup(arguments=arguments, extra=extra), "here")
    assert "NixlConnector" in found.change or "eave it out" in found.change


def test_a_child_of_multi_connector_is_found() -> None:
    child = {"kv_connector": "LeasedNixlConnector", "kv_connector_extra_config": {"kv_lease_duration": 0}}
    many = setup(
        kv_connector="MultiConnector",
        kv_connector_module_path=None,
        kv_connector_extra_config={"connectors": [{"kv_connector": "OffloadingConnector"}, child]},
    )
    assert many.leased
    assert fires("settings", many)


def test_the_stock_name_is_kvleases_with_the_module_or_the_variable() -> None:
    assert not setup(**STOCK).leased
    assert setup(variables={"KVLEASE_REPLACES_NIXL": "1"}, **STOCK).leased
    assert setup(kv_connector="NixlConnector").leased
    assert not setup(kv_connector="NixlConnector", kv_connector_module_path="vllm.x").leased
