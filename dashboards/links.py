"""Where does a click lead? Links between the dashboards that keep data source, job, instance, check, card and time."""

from __future__ import annotations

from dashboards.panels import link
from dashboards.sdk import dashboard

HERE = 'job=~"$job",instance=~"$instance"'  # stands in every selector
FAMILIES = ("environment", "hardware", "benchmarks", "services")  # those that have a dashboard

# A check with the label `board`: the dashboard of its family, else the overview.
BOARD_OF_CHECK = (
    f'label_replace(label_replace(gpucanary_check_info{{{HERE}}}, "board", "gpucanary-overview", "", ""),'
    f' "board", "gpucanary-$1", "family", "({"|".join(FAMILIES)})")'
)


def with_board(expr: str) -> str:
    """`expr`, of checks, with the label `board`."""
    return f"({expr}) * on (job, instance, check) group_left (board) {BOARD_OF_CHECK}"


def from_row(title: str, board: str, *labels: str) -> dashboard.DashboardLink:
    """From a row of a table: `labels` are columns of it, shown or hidden (`uuid` fills the variable `gpu`).

    `board` is a stem, or `""` for the row's own label `board`.
    """
    return _to(title, board or "${__data.fields.board}", [(name, f"${{__data.fields.{name}}}") for name in labels])


def from_series(title: str, board: str, *labels: str) -> dashboard.DashboardLink:
    """From a line, a state or a number: `labels` are those of its series."""
    found = [(name, f"${{__field.labels.{name}}}") for name in labels]
    return _to(title, board or "${__field.labels.board}", found)


def linked(text: str) -> str:
    """Markdown in which the names of dashboards, like **Hardware**, are links."""
    kept = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"
    for stem in ("overview", *FAMILIES, "canary"):
        text = text.replace(f"**{stem.capitalize()}**", f"[{stem.capitalize()}](/d/gpucanary-{stem}?{kept})")
    return text


def runbook(title: str, name: str) -> dashboard.DashboardLink:
    """From a row of a table that has the label `self` of gpucanary_links_info; `name` is the column of the page's name."""
    return link(title, f"${{__data.fields.self}}/runbooks/${{__data.fields.{name}}}")


def _to(title: str, board: str, filled: list[tuple[str, str]]) -> dashboard.DashboardLink:
    uid = board if board.startswith("$") else f"gpucanary-{board}"
    named = {("gpu" if name == "uuid" else name): value for name, value in filled}
    kept = [f"${{{name}:queryparam}}" for name in ("job", "instance") if name not in named]
    given = [f"var-{name}={value}" for name, value in named.items()]
    return link(title, "&".join([f"/d/{uid}?${{datasource:queryparam}}", *kept, *given, "${__url_time_range}"]))
