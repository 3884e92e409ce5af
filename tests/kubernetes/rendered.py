"""The manifests of examples/kubernetes as kustomize makes them, and what is looked for in them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from docs.made.pages import ROOT

EXAMPLES = ROOT / "examples" / "kubernetes"
LLM_D = Path(__file__).parent / "llm_d"
"""A stand-in for the base of llm-d's guide, and the two ways to patch it."""
FOLDERS = (EXAMPLES / "gpu", EXAMPLES / "cpu", LLM_D / "by_position", LLM_D / "by_name")
"""All that can be applied as it is."""


@cache
def text_of(folder: Path) -> str:
    """Returns what `kubectl apply -k` would apply."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here, whose kustomize puts the manifests together")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False, env=_plain()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _plain() -> dict[str, str]:
    """An environment in which kubectl finds no cluster."""
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}


@cache
def objects(folder: Path) -> list[dict[str, Any]]:
    """Returns the objects of a folder."""
    return list(yaml.load_all(text_of(folder), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


class Pod(NamedTuple):
    """A pod template, and its container that is not a sidecar."""

    name: str
    template: dict[str, Any]
    container: dict[str, Any]

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments that are written --name=value, by name."""
        words = [word for word in self.container["args"] if word.startswith("--")]
        return dict(word.split("=", 1) for word in words if "=" in word)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def hook(self) -> list[str]:
        """The command of the preStop hook."""
        command: list[str] = self.container["lifecycle"]["preStop"]["exec"]["command"]
        return command

    @property
    def grace_s(self) -> float:
        """The time that it has to end."""
        return float(self.template["spec"].get("terminationGracePeriodSeconds", 30))


def pods(folder: Path) -> Iterator[Pod]:
    """Yields the pods of a folder."""
    for each in objects(folder):
        if each["kind"] == "Deployment":
            yield _pod(each["metadata"]["name"], each["spec"]["template"])
        elif each["kind"] == "DisaggregatedSet":
            for role in each["spec"]["roles"]:
                yield _pod(role["name"], role["spec"]["leaderWorkerTemplate"]["workerTemplate"])


def pod(folder: Path, name: str) -> Pod:
    """Returns one of them."""
    return next(each for each in pods(folder) if each.name == name)


def _pod(name: str, template: dict[str, Any]) -> Pod:
    return Pod(name, template, template["spec"]["containers"][0])
