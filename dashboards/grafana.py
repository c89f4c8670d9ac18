"""A page as Grafana's dashboard JSON, by way of the Grafana Foundation SDK (pinned: other versions bring other types)."""

import json
import warnings
from collections.abc import Iterable
from typing import Any

with warnings.catch_warnings():
    # The SDK recommends its next dashboard schema, which Grafana before 12 and our console do not read.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builder
    from grafana_foundation_sdk.builders import dashboard as builder
    from grafana_foundation_sdk.builders import prometheus, stat, text, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common
    from grafana_foundation_sdk.models import dashboard as model
    from grafana_foundation_sdk.models import text as text_model

from dashboards.links import Link, hop_link, hop_traces, runbook_link, search_link, trace_link
from dashboards.page import COLUMNS, Page, Panel, Query, Row, Variable

DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFRESH = "10s"
ROW_HEIGHT = 1
_GREEN, _YELLOW, _RED = "green", "#EAB839", "red"
# The colour of text: a number that nobody has said of what is too much.
_PLAIN = "text"
# From this share of a limit on a number turns yellow.
_WARN = 0.75


def as_json(page: Page, place: int) -> str:
    """The page as it is committed. `place` orders the menu."""
    return json.dumps(_dashboard(page, place), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _dashboard(page: Page, place: int) -> model.Dashboard:
    made = (
        builder.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags(["spillway", f"menu-{place:02}", *([f"hop-{page.hop}"] if page.hop else [])])
        .readonly()
        .refresh(REFRESH)
        .time(page.from_ago, "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables(list(_variables(page)))
        .links(list(_page_links(page)))
    )
    place_next = _Grid()
    for row in page.rows:
        made = _with_row(made, row, place_next)
    return made.build()


class _Grid:
    """Gives each panel its place and its number, in reading order."""

    def __init__(self) -> None:
        self._left = self._top = self._line_height = self.panel_id = 0

    def row(self) -> model.GridPos:
        self._break()
        pos = self._take(COLUMNS, ROW_HEIGHT)
        self._break()
        return pos

    def panel(self, width: int, height: int) -> model.GridPos:
        if self._left + width > COLUMNS:
            self._break()
        return self._take(width, height)

    def _take(self, width: int, height: int) -> model.GridPos:
        pos = model.GridPos(x=self._left, y=self._top, w=width, h=height)
        self._left += width
        self._line_height = max(self._line_height, height)
        self.panel_id += 1
        return pos

    def _break(self) -> None:
        self._top += self._line_height
        self._left = self._line_height = 0


def _with_row(made: builder.Dashboard, row: Row, grid: _Grid) -> builder.Dashboard:
    pos = grid.row()
    made = made.with_row(builder.Row(row.title).id(grid.panel_id).grid_pos(pos))
    for panel in row.panels:
        pos = grid.panel(panel.width, panel.height)
        made = made.with_panel(_panel(panel).id(grid.panel_id).grid_pos(pos))
    return made


def _panel(panel: Panel) -> Any:
    if panel.kind == "text":
        return text.Panel().title(panel.title).mode(text_model.TextMode.MARKDOWN).content(panel.text)
    made = _number() if panel.kind == "number" else _chart(panel)
    made = (
        made.title(panel.title)
        .description(f"{panel.means}\n\nWhat to do: {panel.do}")
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
        .data_links([_link(link) for link in _data_links(panel)])
        .targets([_target(query, index, panel.kind) for index, query in enumerate(panel.queries)])
    )
    if not panel.below_zero:
        made = made.min(0)
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    if any(query.exemplars for query in panel.queries):
        links = [{"title": trace_link().title, "url": trace_link().url}]
        made = made.override_by_name("trace_id", [model.DynamicConfigValue("links", links)])
    return made


def _chart(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        .legend(
            common_builder.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if panel.limit is not None:
        style = common_builder.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds_style(style)
    return made


def _number() -> stat.Panel:
    return (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("no data")
    )


def _thresholds(panel: Panel) -> builder.ThresholdsConfig:
    steps: list[tuple[float | None, str]]
    if panel.limit is None:
        steps = [(None, _PLAIN if panel.kind == "number" else _GREEN)]
    elif panel.falling:
        steps = [(None, _RED), (panel.limit, _GREEN)]
    elif panel.kind == "chart":
        steps = [(None, _GREEN), (panel.limit, _RED)]
    else:
        steps = [(None, _GREEN), (panel.limit * _WARN, _YELLOW), (panel.limit, _RED)]
    return (
        builder.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def _data_links(panel: Panel) -> Iterable[Link]:
    if panel.opens_hop:
        yield hop_link(panel.hop)
    yield search_link("Traces of this time", panel.traces or hop_traces(panel.hop))
    if panel.hop:
        yield runbook_link(panel.hop)


def _target(query: Query, index: int, kind: str) -> prometheus.Dataquery:
    made = (
        prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_ref_id(index)).datasource(DATASOURCE).range()
    )
    return made.exemplar(True) if query.exemplars and kind == "chart" else made


def _ref_id(index: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    return (_ref_id(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def _link(link: Link) -> builder.DashboardLink:
    return builder.DashboardLink(link.title).type(model.DashboardLinkType.LINK).url(link.url).target_blank(False)


def _page_links(page: Page) -> Iterable[builder.DashboardLink]:
    menu = builder.DashboardLink("Spillway").type(model.DashboardLinkType.DASHBOARDS).tags(["spillway"])
    yield menu.as_dropdown(True).keep_time(True).include_vars(False)
    yield _link(runbook_link(page.hop))


def _variables(page: Page) -> Iterable[Any]:
    yield builder.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    yield builder.TextBoxVariable("console").label("Console").default_value("")
    if page.workers_of:
        every = model.VariableOption(text="All", value="$__all")
        yield (
            builder.QueryVariable("worker")
            .label("Worker")
            .datasource(DATASOURCE)
            .query(f"label_values({page.workers_of}, worker)")
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .current(every)
        )
    yield from (_figure(variable) for variable in page.variables)


def _figure(variable: Variable) -> Any:
    if variable.asked:
        return builder.TextBoxVariable(variable.name).label(variable.label).default_value(variable.value)
    return builder.ConstantVariable(variable.name).label(variable.label).value(variable.value)
