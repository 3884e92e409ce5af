"""The dashboard as the JSON that Grafana imports."""

import re

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, text, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

from proof.monitoring.panels import DashboardPanel, DashboardRow, Query
from proof.monitoring.rows import ROWS

UID = "kvlease"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLUMNS = 24
_LINES_HIGH, _NUMBERS_HIGH = 8, 4
_WIDEST_NUMBERS = 8
"""The most numbers in a line."""
_LETTERS = "ABCDEFGHIJ"


def rendered() -> str:
    """Returns the whole dashboard as JSON."""
    return JSONEncoder(sort_keys=True, indent=2).encode(_dashboard().build()) + "\n"


def _dashboard() -> dashboard.Dashboard:
    built = (
        dashboard.Dashboard("kvlease: leases between prefill and decode engines")
        .uid(UID)
        .tags(["kvlease", "vllm"])
        .description("Made by `make docs` of kvlease. Recorded series need monitoring/rules.yml.")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("model", "model_name", "kvlease:agent_up"))
        .with_variable(_variable("instance", "instance", 'kvlease:agent_up{model_name=~"$model"}'))
        .with_variable(_variable("engine", "engine", 'kvlease:agent_up{instance=~"$instance"}'))
    )
    number = 0
    for row in ROWS:
        number += 1
        built.with_row(dashboard.Row(row.asks).id(number))
        for panel in _panels(row):
            number += 1
            built.with_panel(panel.id(number))
    return built


def _variable(name: str, label: str, series: str) -> dashboard.QueryVariable:
    # ".*" for all: an engine that is scraped at kvlease's own listener has no model's name.
    return (
        dashboard.QueryVariable(name)
        .datasource(_SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


Visual = timeseries.Panel | stat.Panel | text.Panel


def _panels(row: DashboardRow) -> list[Visual]:
    lines = [panel for panel in row.panels if not panel.number]
    numbers = [panel for panel in row.panels if panel.number]
    count = len(lines) + bool(row.note)
    # Four side by side are narrow, and five or six stand in two lines of three.
    width = _COLUMNS // (count if 0 < count < 5 else 3)
    made: list[Visual] = [_number(panel, max(3, _COLUMNS // min(len(numbers), _WIDEST_NUMBERS))) for panel in numbers]
    made += [_lines(panel, width) for panel in lines]
    if row.note:
        made.append(text.Panel().title("Ask").content(row.note).span(width).height(_LINES_HIGH))
    return made


def _lines(panel: DashboardPanel, width: int) -> timeseries.Panel:
    shown = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(width)
        .height(_LINES_HIGH)
        .line_width(2)
        .fill_opacity(40 if panel.stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .legend(
            VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
        )
    )
    if panel.stacked:
        shown.stacking(StackingConfig().mode(StackingMode.NORMAL))
    for letter, query in zip(_LETTERS, panel.queries, strict=False):
        shown.with_target(_target(letter, query))
    return shown


def _number(panel: DashboardPanel, width: int) -> stat.Panel:
    steps = [Threshold(color="green", value=None)]
    if panel.worry_above is not None:
        # A step begins at its value: the smallest number above.
        steps.append(Threshold(color="red", value=panel.worry_above + 1e-9))
    shown = (
        stat.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(width)
        .height(_NUMBERS_HIGH)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(_thresholds(steps))
    )
    for letter, query in zip(_LETTERS, panel.queries, strict=False):
        shown.with_target(_target(letter, query))
    return shown


def _thresholds(steps: list[Threshold]) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(letter)
        .expr(re.sub(r"\s+", " ", query.expression))
        .legend_format(query.legend)
        .datasource(_SOURCE)
        .range()
    )
