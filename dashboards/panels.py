"""What does a panel of ours look like? One constructor for each kind; what every panel needs cannot be left out.

Each takes a title, the question it answers (its description), its queries and a unit. Colour is never the only sign:
states carry words, numbers their unit, and "no data" a text that says what that means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from dashboards.sdk import common, common_model, dashboard, model, prometheus, prometheus_model, text_model
from dashboards.sdk import stat as stat_builder
from dashboards.sdk import statetimeline as state_builder
from dashboards.sdk import text as text_builder
from dashboards.sdk import timeseries as time_builder

DATASOURCE = common_model.DataSourceRef(type_val="prometheus", uid="${datasource}")
NOTHING = "n/a"  # never a healthy zero
# Colours of Grafana's own palette that hold in light and dark; status colours are for trouble only.
GOOD, WARN, BAD, NONE, NEUTRAL = "green", "orange", "red", "text", "blue"
OUTCOMES = {"ok": GOOD, "degraded": WARN, "failed": BAD, "skipped": "#8e8e8e", "error": "purple"}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query; `legend` is Grafana's format of the series' name (`{{instance}}`)."""

    expr: str
    legend: str = ""
    colors: dashboard.ThresholdsConfig | None = None  # of this query's numbers, where they differ from the panel's

    def built(self, ref: str, *, newest: bool, as_table: bool) -> prometheus.Dataquery:
        """For the SDK. `newest`: the value now instead of the range."""
        query = prometheus.Dataquery().expr(self.expr).datasource(DATASOURCE).ref_id(ref)
        query = query.instant() if newest or as_table else query.range()
        shape = prometheus_model.PromQueryFormat
        query = query.format(shape.TABLE if as_table else shape.TIME_SERIES)
        return query.legend_format(self.legend) if self.legend else query


class Built(Protocol):
    """What every panel builder of the SDK can do."""

    def id(self, id_val: int) -> Self: ...
    def grid_pos(self, grid_pos: model.GridPos) -> Self: ...
    def build(self) -> model.Panel: ...


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and its size on the grid of 24 columns. `builder` may be changed further before it is laid out."""

    builder: Built
    width: int
    height: int


def steps(*of: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Colours by value, absolute: (from this value on, colour); the first from None."""
    listed = [model.Threshold(value=value, color=color) for value, color in of]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(listed)


def words(of: Mapping[float, tuple[str, str]] | Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """Values shown as words, with a colour: {0: ("ok", GOOD), 1: ("firing", BAD)}."""
    shown = {
        value if isinstance(value, str) else f"{value:g}": model.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(of.items())
    }
    return model.ValueMap(options=shown)


def link(title: str, url: str) -> dashboard.DashboardLink:
    """A data link, like `/d/gpucanary-hardware?${datasource:queryparam}&var-instance=${__field.labels.instance}`."""
    return dashboard.DashboardLink(title).url(url)


def stat(
    title: str,
    question: str,
    queries: Sequence[Query],
    unit: str = "short",
    *,
    width: int = 4,
    height: int = 4,
    colors: dashboard.ThresholdsConfig | None = None,
    mapping: model.ValueMap | None = None,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """One number, or one for each series; `mapping` where a number is a state."""
    builder = (
        stat_builder.Panel()
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(colors or steps((None, NONE)))
        .mappings([mapping] if mapping else [])
        .data_links(list(links))
        .unit(unit)
        .no_value(NOTHING)
    )
    return finished(builder, title, question, queries, width, height, newest=True)


def series(
    title: str,
    question: str,
    queries: Sequence[Query],
    unit: str = "short",
    *,
    width: int = 12,
    height: int = 8,
    bound: float | None = None,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """Lines over time. Gaps stay gaps. `bound`: the number an alert has, drawn as a line of its own."""
    above = steps((None, NONE)) if bound is None else steps((None, "transparent"), (bound, BAD))
    drawn = common_model.GraphThresholdsStyleMode.OFF if bound is None else common_model.GraphThresholdsStyleMode.DASHED
    builder = (
        time_builder.Panel()
        .line_width(1.5)
        .fill_opacity(6)
        .show_points(common_model.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.TABLE)
            .placement(common_model.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
        .thresholds(above)
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(drawn))
        .data_links(list(links))
        .unit(unit)
        .no_value(NOTHING)
    )
    return finished(builder, title, question, queries, width, height)


def states(
    title: str,
    question: str,
    queries: Sequence[Query],
    of: Mapping[float, tuple[str, str]],
    *,
    width: int = 24,
    height: int = 8,
    links: Sequence[dashboard.DashboardLink] = (),
) -> Panel:
    """Which state was it in, when? `of`: the word and colour of each value; null is said to be no data."""
    absent = model.SpecialValueMap(  # this panel ignores noValue: https://github.com/grafana/grafana/issues/88004
        options=model.DashboardSpecialValueMapOptions(
            match=model.SpecialValueMatch.NULL,
            result=model.ValueMappingResult(text="no data", color="transparent", index=len(of)),
        )
    )
    builder = (
        state_builder.Panel()
        .mappings([words(of), absent])
        .data_links(list(links))
        .merge_values(True)
        .show_value(common_model.VisibilityMode.AUTO)
        .row_height(0.85)
        .line_width(0)
        .fill_opacity(80)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.SINGLE))
        .thresholds(steps((None, NONE)))
        .unit("short")
        .no_value(NOTHING)
    )
    return finished(builder, title, question, queries, width, height)


def note(markdown: str, *, width: int = 24, height: int = 3, title: str = "What this is for") -> Panel:
    """Words: what a dashboard is for and where to go next."""
    builder = text_builder.Panel().title(title).description(title).transparent(True)
    return Panel(builder.mode(text_model.TextMode.MARKDOWN).content(markdown), width, height)


class _Asking(Built, Protocol):
    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: common_model.DataSourceRef) -> Self: ...
    def with_target(self, target: prometheus.Dataquery) -> Self: ...
    def override_by_query(self, query_ref_id: str, properties: list[model.DynamicConfigValue]) -> Self: ...


def finished(
    builder: _Asking,
    title: str,
    question: str,
    queries: Sequence[Query],
    width: int,
    height: int,
    *,
    newest: bool = False,
    as_table: bool = False,
) -> Panel:
    """The panel with what every one needs; `builder` holds what is its kind's own."""
    builder = builder.title(title).description(question).datasource(DATASOURCE)
    for place, query in enumerate(queries):
        ref = chr(ord("A") + place)
        builder = builder.with_target(query.built(ref, newest=newest, as_table=as_table))
        if query.colors:
            shown = model.DynamicConfigValue(id_val="thresholds", value=query.colors.build())
            builder = builder.override_by_query(ref, [shown])
    return Panel(builder, width, height)
