"""How do panels become a dashboard? Variables, links, annotations, the grid and the numbers every panel needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dashboards.panels import DATASOURCE, Panel
from dashboards.sdk import JSONEncoder, dashboard, model, prometheus

COLUMNS = 24
TAG = "gpu-canary"

# What a variable is filled from. Peers' exporters count where ours is absent (alerts/peers.yml).
OURS = "gpucanary_build_info"
CARDS = '{__name__=~"gpucanary_gpu_info|instance_gpu:info:max"}'


@dataclass(frozen=True, slots=True)
class Variable:
    """A drop-down. `query` is Grafana's `label_values(...)`; one with `many` allows several values and "All"."""

    name: str
    label: str
    query: str
    about: str
    many: bool = True
    regex: str = ""

    def built(self) -> dashboard.QueryVariable:
        variable = (
            dashboard.QueryVariable(self.name)
            .label(self.label)
            .description(self.about)
            .query({"query": self.query, "refId": self.name})
            .definition(self.query)
            .datasource(DATASOURCE)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .regex(self.regex)
            .multi(self.many)
            .include_all(self.many)
        )
        if self.many:
            everything = model.VariableOption(text="All", value="$__all", selected=True)
            variable = variable.all_value(".+").current(everything)
        return variable


JOB = Variable("job", "Job", f"label_values({OURS}, job)", "Scrape job of Prometheus.")
INSTANCE = Variable("instance", "Instance", f'label_values({OURS}{{job=~"$job"}}, instance)', "The exporter's machine.")
CHECK = Variable(
    "check",
    "Check",
    'label_values(gpucanary_check_info{job=~"$job",instance=~"$instance"}, check)',
    "A configured check.",
)


def checks_of(family: str) -> Variable:
    """The variable `check`, with the checks of one family."""
    selector = f'job=~"$job",instance=~"$instance",family="{family}"'
    return replace(CHECK, query=f"label_values(gpucanary_check_info{{{selector}}}, check)")


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading. A collapsed one is loaded when somebody opens it."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard: its stem (`overview` -> `gpucanary-overview`), the question it answers, and its rows."""

    stem: str
    title: str
    question: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = (JOB, INSTANCE)
    since: str = "now-6h"
    annotations: Sequence[dashboard.AnnotationQuery] = ()

    @property
    def uid(self) -> str:
        return f"gpucanary-{self.stem}"

    def built(self) -> model.Dashboard:
        """The SDK's model, with explicit ids and places."""
        builder = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.question)
            .tags([TAG, self.stem])
            .readonly()
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .refresh("1m")
            .time(self.since, "now")
            .timezone("browser")
            .link(_other_boards())
            .with_variable(_datasource())
        )
        for variable in self.variables:
            builder = builder.with_variable(variable.built())
        for annotation in (alerts_firing(), *self.annotations):
            builder = builder.annotation(annotation)
        made = builder.build()
        made.panels = list(_laid_out(self.rows))
        return made

    def json(self) -> str:
        """The same bytes for the same board."""
        return json.dumps(self.built(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def annotation(name: str, about: str, expr: str, color: str, titled: str, text: str) -> dashboard.AnnotationQuery:
    """Marks on the time axis wherever `expr` has a value."""
    target = prometheus.Dataquery().expr(expr).datasource(DATASOURCE).ref_id("Anno").range()
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expr)
        .target(target)
        .title_format(titled)
        .text_format(text or about)
        .step("60s")
    )


def alerts_firing() -> dashboard.AnnotationQuery:
    """Every alert of ours, from when to when it fired."""
    expr = 'ALERTS{alertname=~"GpuCanary.+",alertstate="firing",severity=~"critical|warning",job=~"$job",instance=~"$instance"}'
    return annotation(
        "Alerts", "Alerts that fired.", expr, "red", "{{alertname}}", "{{severity}} {{instance}} {{check}}"
    )


def _datasource() -> dashboard.DatasourceVariable:
    about = "The Prometheus that scrapes the exporters."
    return dashboard.DatasourceVariable("datasource").label("Data source").description(about).type("prometheus")


def _other_boards() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("gpu-canary")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
        .tooltip("The other dashboards of gpu-canary, with the same variables and time.")
    )


def _laid_out(rows: Sequence[Row]) -> Iterator[model.Panel | model.RowPanel]:
    """Ids from 1 upwards; panels from left to right, each line as high as its highest."""
    number, top = 0, 0
    for row in rows:
        number += 1
        heading = model.RowPanel(
            id_val=number, title=row.title, collapsed=row.collapsed, grid_pos=model.GridPos(h=1, w=COLUMNS, x=0, y=top)
        )
        top += 1
        panels, bottom = _flow(row.panels, number, top)
        number += len(panels)
        if row.collapsed:
            heading.panels = panels
            yield heading
        else:
            top = bottom
            yield heading
            yield from panels


def _flow(panels: Sequence[Panel], number: int, top: int) -> tuple[list[model.Panel], int]:
    made: list[model.Panel] = []
    left = line = 0
    for panel in panels:
        if left + panel.width > COLUMNS:
            left, top, line = 0, top + line, 0
        number += 1
        place = model.GridPos(h=panel.height, w=panel.width, x=left, y=top)
        made.append(panel.builder.id(number).grid_pos(place).build())
        left, line = left + panel.width, max(line, panel.height)
    return made, top + line
