"""The Kubernetes examples: the API and the doctor take them, and what belongs together fits together."""

import argparse
import copy
import json
import os
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from docs.made.pages import DOCS, ROOT
from kvlease.admin.listener import AdminListener
from kvlease.admin.settings import TOKEN_VARIABLE, ListenSettings
from kvlease.cli.router import add_router
from kvlease.doctor.examination import ToExamine, examine_all
from kvlease.doctor.reading import read
from kvlease.router.settings import NUMBERS, RouterSettings
from kvlease.up.engines import HOST
from kvlease.up.ports import free_port
from kvlease.vllm.surface import TESTED
from tests.admin.doors import Door
from tests.kubernetes.rendered import EXAMPLES, FOLDERS, LLM_D, objects, pod, pods, text_of
from tests.kubernetes.schemas import faults

TOKEN = "0123456789abcdef"
DNS_TTL_S = 5
"""The time to live that Kubernetes' DNS gives the names of Services."""
GOING_S = 10
"""The time in which an engine that has nothing left ends."""


def test_the_api_takes_them() -> None:
    assert [fault for folder in FOLDERS for each in objects(folder) for fault in faults(each)] == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ('"replicas": 2', '"replicas": "2"', "Deployment.spec.replicas is '2'"),
        ('"terminationGracePeriodSeconds"', '"gracePeriod"', "template.spec has gracePeriod"),
        ('"mountPath": "/dev/shm", ', "", "volumeMounts[0] has no mountPath"),
    ],
)
def test_the_api_would_refuse_others(right: str, wrong: str, fault: str) -> None:
    """A value of another type, a field with a wrong name, and one that is missing."""
    engine = next(
        each for each in objects(FOLDERS[0]) if each["metadata"]["name"] == "prefill" and "template" in each["spec"]
    )
    changed = json.dumps(engine).replace(right, wrong)
    assert changed != json.dumps(engine)
    assert [found for found in faults(json.loads(changed)) if fault in found]


@pytest.mark.parametrize(
    ("folder", "left"), list(zip(FOLDERS, [set(), set(), set(), {"load-failure-policy"}], strict=True))
)
def test_the_doctor_finds_nothing(folder: Path, left: set[str], tmp_path: Path) -> None:
    """It checks the settings as the connector does, the side channel, the drain and the grace period. Of llm-d's base,
    whose arguments the second way leaves alone, one advice is left, and the page tells it."""
    file = tmp_path / "all.yaml"
    file.write_text(text_of(folder))
    setups = read(str(file), {})
    assert [setup.leased for setup in setups] == [True, True]
    assert {setup.transfer["kv_role"] for setup in setups} == {"kv_producer", "kv_consumer"}
    found = examine_all(ToExamine(setups, machine=False), {}).findings
    assert {finding.id for finding in found} == left
    page = (DOCS / "operate" / "deploy.md").read_text()
    assert all(f"`{name}`" in page for name in left)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pod_has_time_for_its_hook_and_its_engine(folder: Path) -> None:
    for each in pods(folder):
        waits = sum(map(float, re.findall(r"(?:sleep[ (]|wait=)(\d+)", " ".join(each.hook))))
        stays = float(each.arguments.get("--shutdown-timeout", each.arguments.get("--drain-timeout", 0)))
        assert waits > 0
        assert waits + stays + GOING_S <= each.grace_s, each.name


@pytest.mark.parametrize("folder", [FOLDERS[0], *FOLDERS[2:]])
def test_the_hook_of_a_prefill_pod_drains_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its program, run as it is, against kvlease's own listener, which asks for the token where the pod has one."""
    each = pod(folder, "prefill")
    python, option, program = each.hook
    assert (python, option) == ("python3", "-c")
    has_token = any(variable["name"] == TOKEN_VARIABLE for variable in each.container["env"])
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    door = Door()
    listener = AdminListener(door.core, ListenSettings("127.0.0.1", free_port(HOST), TOKEN if has_token else None))
    listener.start()
    (port,) = re.findall(r'"127\.0\.0\.1", (\d+)', program)
    try:
        with pytest.raises(SystemExit) as ended:
            exec(compile(program.replace(port, str(listener.port)), "the hook", "exec"), {})
        assert not ended.value.code
        assert door.p.producer.draining
    finally:
        listener.stop()
    assert slept == [10]
    listens = re.search(r'kv_lease_listen": "[\d.]+:(\d+)"', " ".join(each.container["args"]))
    assert int(port) == (int(listens[1]) if listens else each.ports["modelserver"])


@pytest.mark.parametrize("folder", FOLDERS[:2])
@pytest.mark.parametrize("name", ["prefill", "decode"])
def test_ports_are_the_same_wherever_they_are_written(folder: Path, name: str) -> None:
    each = pod(folder, name)
    variables = {variable["name"]: variable.get("value") for variable in each.container["env"]}
    assert each.ports["http"] == int(each.arguments["--port"])
    assert each.ports["nixl"] == int(variables["VLLM_NIXL_SIDE_CHANNEL_PORT"])
    assert f'"kv_lease_listen": "0.0.0.0:{each.ports["admin"]}"' in " ".join(each.container["args"])
    (service,) = [
        found for found in objects(folder) if found["kind"] == "Service" and found["metadata"]["name"] == name
    ]
    assert service["spec"]["clusterIP"] == "None"
    assert pod(folder, "router").arguments[f"--{name}-dns"] == f"{name}:{each.ports['http']}"
    assert {probe: each.container[probe]["httpGet"]["port"] for probe in each.container if probe.endswith("Probe")} == {
        f"{kind}Probe": "http" for kind in ("startup", "readiness", "liveness")
    }


@pytest.mark.parametrize("folder", FOLDERS[:2])
def test_services_policies_and_budgets_mean_pods_that_are_there(folder: Path) -> None:
    templates = {each.name: each.template["metadata"]["labels"] for each in pods(folder)}
    for each in objects(folder):
        spec = each.get("spec", {})
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            chosen = spec["selector"].get("matchLabels", spec["selector"])
            name = each["metadata"]["name"]
            assert [found for found, labels in templates.items() if chosen.items() <= labels.items()] == [name]
            ports = pod(folder, name).ports
            assert all(port["targetPort"] in ports for port in spec.get("ports", ()))
        if each["kind"] == "NetworkPolicy":
            named = {port["port"] for rule in spec["ingress"] for port in rule.get("ports", ())}
            assert named <= set(pod(folder, "prefill").ports)


def test_the_router_knows_that_an_engine_goes_before_it_goes() -> None:
    router = pod(FOLDERS[0], "router")
    known_s = float(router.arguments["--dns-interval"]) + DNS_TTL_S
    for name in ("prefill", "decode"):
        (sleeps,) = re.findall(r"sleep[ (](\d+)", " ".join(pod(FOLDERS[0], name).hook))
        assert known_s < float(sleeps)


def test_the_routers_command_line_is_one() -> None:
    """`kvlease router` takes every argument, and the values are allowed."""
    router = pod(FOLDERS[0], "router")
    words: list[str] = router.container["command"] + router.container["args"]
    parser = argparse.ArgumentParser()
    add_router(parser.add_subparsers())
    chosen = parser.parse_args(words[1:])
    assert words[0] == "kvlease"
    assert chosen.port == router.ports["http"]
    RouterSettings(
        host=chosen.host,
        prefill_dns=tuple(chosen.prefill_dns),
        decode_dns=tuple(chosen.decode_dns),
        **{number.name: getattr(chosen, number.name) for number in NUMBERS},
    )


def test_the_page_tells_of_every_secret() -> None:
    page = (DOCS / "operate" / "deploy.md").read_text()
    named = set(re.findall(r"secretKeyRef:\s+key: (\w+)\s+name: ([\w-]+)", text_of(FOLDERS[0])))
    assert {name for _, name in named} == {"kvlease-admin", "kvlease-clients"}
    assert all(f"secret generic {name} --from-literal={key}=" in page for key, name in named)


def test_the_images_are_those_of_the_dockerfile() -> None:
    recipe = (EXAMPLES / "Dockerfile").read_text()
    stages = set(re.findall(r" AS (\w+)$", recipe, re.MULTILINE))
    for folder in FOLDERS:
        images = {each.container["image"] for each in pods(folder)}
        assert {re.fullmatch(r"kvlease-(\w+):0\.1\.0(-cpu)?", image)[1] for image in images} <= stages  # type: ignore[index]
    (vllm,) = re.findall(r"vllm-openai:v(\d+\.\d+)\.", recipe)
    assert vllm in TESTED
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == "0.1.0"
    assert set(re.findall(r"\[(\w+)\]", recipe)) == {"router"} <= set(project["optional-dependencies"])


def test_llm_ds_own_is_left_as_it_is() -> None:
    """Each way changes an engine's image, configuration and end, and no more: not the sidecar, and no port."""
    before = objects(LLM_D / "base")[0]["spec"]["roles"]
    for folder in FOLDERS[2:]:
        for old, new in zip(before, objects(folder)[0]["spec"]["roles"], strict=True):
            assert _without_what_is_changed(new) == _without_what_is_changed(old)


def _without_what_is_changed(role: dict[str, Any]) -> dict[str, Any]:
    plain = copy.deepcopy(role)
    spec = plain["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]
    spec.pop("terminationGracePeriodSeconds", None)
    container = spec["containers"][0]
    container.pop("lifecycle", None)
    del container["image"]
    args = container["args"]
    args[:] = [word for word in args if not word.startswith(("{", "--shutdown-timeout"))]
    ours = ("KVLEASE_REPLACES_NIXL", "VLLM_PLUGINS")
    container["env"] = [variable for variable in container["env"] if variable["name"] not in ours]
    return plain


def test_llm_d_that_has_moved_an_argument_is_not_patched(tmp_path: Path) -> None:
    """The patch by position fails whole, instead of writing its line over another argument."""
    base = (LLM_D / "base" / "disaggregatedset.yaml").read_text().replace("                    - --six\n", "")
    (tmp_path / "disaggregatedset.yaml").write_text(base)
    component = os.path.relpath(EXAMPLES / "llm-d", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [disaggregatedset.yaml]\ncomponents: [{component}]\n")
    with pytest.raises(AssertionError, match="test"):
        text_of(tmp_path)
