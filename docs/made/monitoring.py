"""The files of `monitoring/` that are made, and the table of its alerts."""

from collections.abc import Callable, Iterator
from pathlib import Path

from docs.made.markdown import code, table
from proof.monitoring.grafana import rendered
from proof.monitoring.rules import FOLDER, RULES, Alert, alerts, manifest

FILES: dict[Path, Callable[[], str]] = {
    FOLDER / "dashboard.json": rendered,
    FOLDER / "prometheusrule.yml": lambda: manifest(RULES.read_text()),
}


def alert_table() -> Iterator[str]:
    """Every alert: when it fires, and what to do then."""
    rows = (
        (code(alert.name), alert.severity, f"{code(alert.expression)}{_after(alert)}", _advice(alert))
        for alert in alerts()
    )
    return table(("alert", "severity", "fires when", "what it means, and what to do"), rows)


def _advice(alert: Alert) -> str:
    page = alert.annotations["runbook"].removeprefix("docs/operate/")
    return f"{alert.annotations['description']} [More]({page})"


def _after(alert: Alert) -> str:
    return f", for {alert.after}" if alert.after else ""
