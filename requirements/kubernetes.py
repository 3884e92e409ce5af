"""Writes the schemas that the Kubernetes examples need into a file: `python requirements/kubernetes.py FILE`.

They are in a package of 22 MB with the schemas of many versions. Some 0.1 MB of them are needed here: what is reachable
from `KINDS`, without its descriptions.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).with_suffix(".txt")
KINDS = (
    "core.v1.ConfigMap",
    "core.v1.PodTemplateSpec",
    "core.v1.Service",
    "apps.v1.Deployment",
    "policy.v1.PodDisruptionBudget",
    "networking.v1.NetworkPolicy",
)
REFERENCE = "#/$defs/"


def main(file: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", scratch, "-r", str(PACKAGE)], check=True)
        definitions = in_wheel(next(Path(scratch).glob("*.whl")))
    wanted, kept = [f"io.k8s.api.{kind}" for kind in KINDS], {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = without_descriptions(definitions[name])
            wanted += references(kept[name])
    file.write_text(json.dumps(kept, indent=1, sort_keys=True))


def in_wheel(wheel: Path) -> dict[str, Any]:
    version = wheel.name.split("-")[1]
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
    with zipfile.ZipFile(wheel) as files:
        found: dict[str, Any] = json.loads(files.read(f"{folder}/_definitions.json"))["$defs"]
    return found


def without_descriptions(value: Any) -> Any:
    if isinstance(value, list):
        return [without_descriptions(each) for each in value]
    if not isinstance(value, dict):
        return value
    # A field may be called so as well; its schema is no text.
    said = value.get("description")
    return {
        key: without_descriptions(each)
        for key, each in value.items()
        if not (key == "description" and isinstance(said, str))
    }


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref" and isinstance(each, str):
                yield each.removeprefix(REFERENCE)
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
