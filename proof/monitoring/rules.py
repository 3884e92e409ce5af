"""The rules of Prometheus, as `monitoring/rules.yml` has them, and the manifest of them for Kubernetes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from proof import ROOT

FOLDER = ROOT / "monitoring"
RULES = FOLDER / "rules.yml"

_MANIFEST = """\
# The rules of rules.yml for the Prometheus operator. Made from it by `make docs`: change that file.
#
#   kubectl apply -n MONITORING -f prometheusrule.yml
#
# Many operators load only rules with a label of theirs: add what `ruleSelector` of your Prometheus asks for.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: kvlease
  labels:
    app.kubernetes.io/name: kvlease
spec:
"""


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus computes ahead."""

    name: str
    expression: str


@dataclass(frozen=True)
class Alert:
    """A condition that somebody has to hear of."""

    name: str
    expression: str
    severity: str
    after: str
    """The time for which it has to hold, as Prometheus writes it; "" for at once."""
    annotations: Mapping[str, str] = field(hash=False)


def rules() -> Iterator[Recording | Alert]:
    """Yields every rule, from the top."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                yield Recording(rule["record"], rule["expr"])
            else:
                severity = rule["labels"]["severity"]
                yield Alert(rule["alert"], rule["expr"], severity, rule.get("for", ""), rule["annotations"])


def recordings() -> list[Recording]:
    """Returns the series that are computed ahead."""
    return [rule for rule in rules() if isinstance(rule, Recording)]


def alerts() -> list[Alert]:
    """Returns the alerts."""
    return [rule for rule in rules() if isinstance(rule, Alert)]


def manifest(text: str) -> str:
    """Returns the manifest of a file of rules."""
    _, found, groups = text.partition("groups:\n")
    if not found:
        raise ValueError(f"{RULES} has no line `groups:`: it is no file of rules")
    return _MANIFEST + "".join(f"  {line}".rstrip() + "\n" for line in (found + groups).splitlines())
