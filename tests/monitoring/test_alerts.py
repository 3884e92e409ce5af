"""Each alert fires when it should, and none in good times, as promtool plays series to the rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from proof.monitoring.rules import RULES, rules
from tests.monitoring.cases import CASES, EARLY_S, GOOD, LATE_S, STEP_S, Case, of, rising
from tests.monitoring.promtool import promtool

pytestmark = pytest.mark.prometheus


def test_the_rules_are_rules(tmp_path: Path) -> None:
    assert f"SUCCESS: {len(list(rules()))} rules found" in promtool("check", "rules", str(RULES), folder=tmp_path)


def played(case: Case) -> dict[str, Any]:
    """Returns promtool's test of a case: the alerts that fire are exactly those, early and late."""
    checks = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{at_s}s",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
        for at_s, names in ((EARLY_S, case.early), (LATE_S, case.late))
    ]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    return {"name": case.name, "interval": f"{STEP_S}s", "input_series": series, "promql_expr_test": checks}


def play(cases: tuple[Case, ...], folder: Path) -> None:
    # Each instance of an alert is a series of its own: that only those fire is asked as a count of one each.
    document = {"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_S}s", "tests": [played(c) for c in cases]}
    (folder / "tests.yml").write_text(json.dumps(document))
    promtool("test", "rules", "tests.yml", folder=folder)


def test_alerts_fire_in_trouble_and_not_before(tmp_path: Path) -> None:
    play(CASES, tmp_path)


def test_an_alert_that_does_not_fire_is_found(tmp_path: Path) -> None:
    series = {**GOOD, of("D", "kvlease:lost_leases_total"): rising()}
    with pytest.raises(AssertionError, match="KvleaseLeasesLost"):
        play((Case("nothing is expected", series, frozenset()),), tmp_path)
    with pytest.raises(AssertionError, match="KvleaseLateReads"):
        play((Case("another is expected", GOOD, frozenset(("KvleaseLateReads",))),), tmp_path)
