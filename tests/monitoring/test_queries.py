"""Every query of the dashboard and of the rules asks for series and labels that there are."""

import json
import re
from collections.abc import Iterator

import pytest

from docs.made.monitoring import FILES
from docs.made.pages import ROOT
from kvlease.metrics.advice import RECORDING_RULES
from kvlease.metrics.catalogue import METRICS
from proof.monitoring.rules import Alert, alerts, recordings, rules
from tests.docs.pages import Link, fault_of
from tests.monitoring.cases import CASES, GOOD, Case
from tests.monitoring.known import Series, known
from tests.monitoring.promql import Matcher, Selector, grouped_by, selectors

KNOWN = known()
NO_ALERT = {
    "claimed_leases": "how far is too far depends on the router; what is never claimed expires",
    "claims": "those that do not come expire, or are unfenced reads",
    "lapsed_leases": "they cost nothing",
    "saved_prefill_tokens": "its late claims have one",
    "returned_leases": "how often an engine may refuse is not kvlease's to say, and vLLM counts it, too",
    "sessions": "how many there should be depends on the fleet",
    "messages_sent": "how many sessions open depends on the fleet; failures of the transport have one",
    "fence_slots_used": "offers that are declined for want of slots have one",
    "renewals": "P hears that they stand still, as unheard leases",
    "late": "nobody's mistake",
    "claim_wait_seconds": "what comes after the term are late claims; the advice on the term says the rest",
    "claim_to_release_seconds": "how long a decode engine's queue may be is not kvlease's to say",
    "lease_age_seconds": "leases that reach their maximum age have one",
}
"""The metrics that may be worrying, and why no alert asks for them."""
CHANGED = "run `make docs`, and read what it changes"
DASHBOARD = json.loads((ROOT / "monitoring/dashboard.json").read_text())
SHOWN = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_a_made_file_is_what_the_code_makes(file: object) -> None:
    assert FILES[file]() == file.read_text(), CHANGED  # type: ignore[index, attr-defined]


def faults(expression: str) -> Iterator[str]:
    """Yields what there is not, of all that a query asks for."""
    asked = list(selectors(expression))
    if not asked:
        yield "it asks for no series"
    for selector in asked:
        series = KNOWN.get(selector.name)
        if series is None:
            yield f"there is no series {selector.name}"
        else:
            yield from (fault for matcher in selector.matchers for fault in faults_of(matcher, selector, series))
    labels = {label for selector in asked if selector.name in KNOWN for label in KNOWN[selector.name].labels}
    yield from (f"nothing has the label {label}" for label in grouped_by(expression) - labels)


def faults_of(matcher: Matcher, selector: Selector, series: Series) -> Iterator[str]:
    if matcher.label not in series.labels:
        yield f"{selector.name} has no label {matcher.label}"
        return
    values = series.labels[matcher.label]
    yield from (
        f"{matcher.label} of {selector.name} is never {value}"
        for value in matcher.alternatives
        if values and value not in values
    )


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.name)
def test_a_rule_asks_for_what_there_is(rule: Alert) -> None:
    assert list(faults(rule.expression)) == []


@pytest.mark.parametrize(("title", "expression", "legend"), SHOWN, ids=[shown[0] for shown in SHOWN])
def test_a_panel_asks_for_what_there_is(title: str, expression: str, legend: str) -> None:
    assert list(faults(expression)) == [], title
    labels = {label for selector in selectors(expression) for label in KNOWN[selector.name].labels}
    if grouped_by(expression):
        labels &= grouped_by(expression)
    assert set(re.findall(r"{{(\w+)}}", legend)) <= labels, "its lines have no such label to be named by"


def test_every_recorded_series_is_asked_for() -> None:
    asked = {selector.name for _, expression, _ in SHOWN for selector in selectors(expression)}
    asked |= {selector.name for rule in rules() for selector in selectors(rule.expression)}
    assert {rule.name for rule in recordings()} - asked == set(), "nothing shows it, and no rule asks for it"


def test_the_advice_on_the_term_is_the_doctors() -> None:
    ours = {rule.name: re.sub(r"\s+", "", rule.expression) for rule in recordings()}
    for name, expression in RECORDING_RULES.items():
        assert ours[name] == re.sub(r"\s+", "", expression)


def test_names_are_given_once() -> None:
    names = [rule.name for rule in rules()]
    assert len(names) == len(set(names))
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_whatever_is_to_worry_about_has_an_alert_or_a_reason_for_none() -> None:
    recorded = {rule.name: rule.expression for rule in recordings()}
    asked = {selector.name for alert in alerts() for selector in selectors(alert.expression)}
    asked |= {selector.name for name in asked & recorded.keys() for selector in selectors(recorded[name])}
    worrying = [metric for metric in METRICS.values() if metric.worry or any(v.worry for v in metric.values.values())]
    silent = {metric.name for metric in worrying if not any(name.startswith(metric.shown) for name in asked)}
    assert silent == NO_ALERT.keys()


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {name for case in CASES for name in case.late} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_plays_series_that_there_are(case: Case) -> None:
    assert [fault for series in case.series for fault in faults(series)] == []


def test_good_times_have_all_that_alerts_ask_for() -> None:
    """An alert that asks for what is not there never fires, and nothing would show it."""
    played = {selector.name for series in GOOD for selector in selectors(series)}
    asked = {selector.name for alert in alerts() for selector in selectors(alert.expression)}
    recorded = {rule.name: rule.expression for rule in recordings()}
    for name in asked & recorded.keys():
        asked |= {selector.name for selector in selectors(recorded[name])}
    assert asked - recorded.keys() <= played


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: Alert) -> None:
    assert alert.name.startswith("Kvlease")
    assert alert.severity in {"critical", "warning"}
    assert alert.annotations.keys() == {"summary", "description", "runbook"}
    page = Link(alert.annotations["runbook"], "")
    assert fault_of(page, ROOT / "README.md") is None
    assert set(re.findall(r"\$labels\.(\w+)", str(alert.annotations))) <= {
        label for selector in selectors(alert.expression) for label in KNOWN[selector.name].labels
    }


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("kvlease:active_lease", "there is no series kvlease:active_lease"),
        ("kvlease:grants", "there is no series kvlease:grants"),
        ('kvlease:active_leases{role="x"}', "kvlease:active_leases has no label role"),
        (
            'rate(kvlease:lease_ends_total{cause=~"expired|lost"}[5m])',
            "cause of kvlease:lease_ends_total is never lost",
        ),
        ("sum by (consumer) (kvlease:active_leases)", "nothing has the label consumer"),
        ("1 + 1", "it asks for no series"),
    ],
)
def test_a_query_for_what_is_not_there_is_found(expression: str, fault: str) -> None:
    assert list(faults(expression)) == [fault]
