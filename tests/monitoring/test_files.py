"""The files with which Prometheus and Grafana are started fit each other."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from docs.made.pages import ROOT
from proof.monitoring.rules import FOLDER, RULES, manifest
from tests.monitoring.promtool import promtool

COMPOSE = yaml.safe_load((FOLDER / "compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def inside(service: str, path: str) -> str:
    """Returns the path in `monitoring/` of a file in a container, by the service's volumes."""
    for volume in SERVICES[service]["volumes"]:
        here, there = volume.split(":")[:2]
        if here.startswith(".") and (path == there or path.startswith(f"{there}/")):
            return str(here) + path.removeprefix(there)
    raise AssertionError(f"{service} has no {path}")


def test_every_mounted_file_is_there_and_cannot_be_written() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            here, _, mode = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "")
            assert (FOLDER / here).exists() and mode == "ro" if here.startswith(".") else here in COMPOSE["volumes"]


def test_images_have_versions_and_ports_are_this_machines() -> None:
    for service in SERVICES.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_prometheus_finds_rules_and_engines_and_grafana_finds_prometheus_and_the_dashboard() -> None:
    # The image's own path, where it looks for its configuration.
    assert inside("prometheus", "/etc/prometheus/prometheus.yml") == "./prometheus.yml"
    (source,) = yaml.safe_load((FOLDER / "grafana/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "grafana/dashboards/kvlease.yml").read_text())["providers"]
    assert (
        inside("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml")
        == "./grafana/datasources/prometheus.yml"
    )
    assert inside("grafana", f"{provider['options']['path']}/dashboard.json") == "./dashboard.json"
    assert source["url"] == "http://prometheus:9090"
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == settings["global"]["scrape_interval"]


def test_the_manifest_has_the_rules_as_they_are() -> None:
    document = yaml.safe_load((FOLDER / "prometheusrule.yml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert document["spec"] == yaml.safe_load(RULES.read_text())
    with pytest.raises(ValueError, match="no line `groups:`"):
        manifest("alerts: []\n")


@pytest.mark.prometheus
def test_prometheus_takes_its_configuration() -> None:
    assert "1 rule files found" in promtool("check", "config", str(FOLDER / "prometheus.yml"), folder=ROOT)


@pytest.mark.prometheus
def test_docker_takes_the_compose_file() -> None:
    command = [shutil.which("docker") or "docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not here")
    subprocess.run([*command, "-f", FOLDER / "compose.yml", "config", "--quiet"], check=True)
