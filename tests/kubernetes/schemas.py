"""The schemas of Kubernetes' API, and what an object has that they do not allow.

The schemas are what `make check` has taken out of a package (requirements/kubernetes.py). They are written with a part
of JSON Schema that is small enough to be checked here.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FILE = Path(sys.prefix) / "kubernetes.json"
POD_TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec"
GROUPS = {"v1": "core.v1", "apps/v1": "apps.v1", "policy/v1": "policy.v1", "networking.k8s.io/v1": "networking.v1"}
"""The API's versions that the examples use, as the schemas' names have them."""
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
CHECKED = {"$ref", "type", "enum", "oneOf", "properties", "required", "additionalProperties", "items"}
"""The keywords that say what is allowed."""
SAID = {"format"}
"""One that only says something."""


def faults(document: dict[str, Any]) -> list[str]:
    """Returns what the API would refuse in an object: fields that it has not, types that are others."""
    if document["kind"] == "DisaggregatedSet":
        # Its own fields are llm-d's; what is in its pods is Kubernetes'.
        roles = document["spec"]["roles"]
        templates = [role["spec"]["leaderWorkerTemplate"]["workerTemplate"] for role in roles]
        return [fault for each in templates for fault in _faults(_definition(POD_TEMPLATE), each, "template")]
    name = f"io.k8s.api.{GROUPS[document['apiVersion']]}.{document['kind']}"
    return list(_faults(_definition(name), document, document["kind"]))


def _faults(schema: Mapping[str, Any], value: Any, place: str) -> Iterator[str]:
    unknown = {key for key in schema if not key.startswith("x-")} - CHECKED - SAID
    assert not unknown, f"the schemas say {unknown}, which is not checked here"
    if "$ref" in schema:
        yield from _faults(_definition(schema["$ref"].rpartition("/")[2]), value, place)
    if "type" in schema and not _is_of(schema["type"], value):
        yield f"{place} is {value!r:.60}, not of {schema['type']}"
    if value not in schema.get("enum", [value]):
        yield f"{place} is {value!r:.60}, not one of {schema['enum']}"
    if "oneOf" in schema and all(list(_faults(each, value, place)) for each in schema["oneOf"]):
        yield f"{place} is {value!r:.60}, none of {schema['oneOf']}"
    if isinstance(value, dict):
        yield from _faults_inside(schema, value, place)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(schema["items"], item, f"{place}[{index}]")


def _faults_inside(schema: Mapping[str, Any], value: dict[str, Any], place: str) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{place} has no {key}"
    others = schema.get("additionalProperties", True)
    for key, inner in value.items():
        known = schema.get("properties", {}).get(key, others)
        if known is False:
            yield f"{place} has {key}, which is no field"
        elif isinstance(known, dict):
            yield from _faults(known, inner, f"{place}.{key}")


def _is_of(kinds: str | list[str], value: Any) -> bool:
    allowed = [kind for name in ([kinds] if isinstance(kinds, str) else kinds) for kind in TYPES[name]]
    # A bool is an int to Python, and not to the API.
    return type(value) in allowed


def _definition(name: str) -> Any:
    return _definitions()[name]


@cache
def _definitions() -> Any:
    if not FILE.is_file():
        pytest.skip("the API's schemas are not here: make check fetches them")
    return json.loads(FILE.read_text())
