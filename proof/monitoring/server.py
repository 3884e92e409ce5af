"""A Prometheus on this machine, for as long as somebody looks, with kvlease's rules."""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvlease.up.ports import free_port
from proof.monitoring.client import PrometheusClient
from proof.monitoring.programs import NoPrometheus, program
from proof.monitoring.rules import RULES

HOST = "127.0.0.1"
JOB = "vllm"
_READY_WITHIN_S = 30.0
_POLL_S = 0.05
_INTERVAL = re.compile(r"^ +interval: .*\n", re.MULTILINE)
_ENDS_WITHIN_S = 10.0


def configuration(targets: Mapping[str, str], scrape_s: float) -> dict[str, Any]:
    """Returns the configuration that scrapes these addresses (host:port) by the names that are to stand for them."""
    interval = f"{round(scrape_s * 1000)}ms"
    named = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": JOB, "static_configs": named}],
    }


@contextmanager
def prometheus(targets: Mapping[str, str], folder: Path, scrape_s: float = 1.0) -> Iterator[PrometheusClient]:
    """Runs Prometheus with these targets until left; its data and its log are in `folder`.

    Raises NoPrometheus where there is none, or where it does not get ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Groups that are in no hurry would not be seen in a short look.
    (folder / "rules.yml").write_text(_INTERVAL.sub("", RULES.read_text()))
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(configuration(targets, scrape_s), indent=2))
    address = f"{HOST}:{free_port(HOST)}"
    command = [
        str(program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    client = PrometheusClient(f"http://{address}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_ready(client, process, folder / "prometheus.log")
        yield client
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(client: PrometheusClient, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while not client.is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NoPrometheus(f"Prometheus did not start; its log, {log}, ends so:\n{log.read_text()[-1000:]}")
        time.sleep(_POLL_S)
