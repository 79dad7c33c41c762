"""What does a table of ours look like? Columns of labels and values, joined over all queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboards.panels import NONE, NOTHING, Panel, Query, finished, steps
from dashboards.sdk import common, common_model, dashboard, model
from dashboards.sdk import table as table_builder


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the label it shows, or `Value #A` for the number of query A."""

    field: str
    title: str
    unit: str = ""
    mapping: model.ValueMap | None = None
    links: tuple[dashboard.DashboardLink, ...] = ()
    width: int = 0
    long: bool = False  # text that needs several lines
    hidden: bool = False  # there only for links: `${__data.fields.FIELD}`
    colors: dashboard.ThresholdsConfig | None = None

    def properties(self) -> list[model.DynamicConfigValue]:
        # of a cell: the table's own text for no data is about all of it
        found = [model.DynamicConfigValue(id_val="noValue", value=NOTHING)]
        if self.unit:
            found.append(model.DynamicConfigValue(id_val="unit", value=self.unit))
        if self.mapping:
            found.append(model.DynamicConfigValue(id_val="mappings", value=[self.mapping]))
            cell = {"type": "color-text"}
            found.append(model.DynamicConfigValue(id_val="custom.cellOptions", value=cell))
        if self.links:
            found.append(model.DynamicConfigValue(id_val="links", value=[one.build() for one in self.links]))
        if self.width:
            found.append(model.DynamicConfigValue(id_val="custom.width", value=self.width))
        if self.colors:
            found.append(model.DynamicConfigValue(id_val="thresholds", value=self.colors.build()))
            found.append(model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        if self.long:
            found.append(
                model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "auto", "wrapText": True})
            )
            found.append(model.DynamicConfigValue(id_val="custom.inspect", value=True))
        if self.hidden:  # the first for Grafana up to 12.1, the second from 12.2 on
            found.append(model.DynamicConfigValue(id_val="custom.hidden", value=True))
            found.append(model.DynamicConfigValue(id_val="custom.hideFrom", value={"viz": True}))
        return found


def table(
    title: str,
    question: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    width: int = 24,
    height: int = 9,
    empty: str = "nothing",
    first: str = "",
    falling: bool = True,
) -> Panel:
    """Rows of labels and values, joined over all queries; only `columns` are shown, in their order.

    `empty` is what the table says when there are no rows: the truth in words. `first`: the title of the column to
    sort by, `falling` or rising. Every query gives the same labels: rows are joined by what all of them have.
    """
    builder = (
        table_builder.Panel()
        .cell_height(common_model.TableCellHeight.SM)
        .filterable(True)
        .thresholds(steps((None, NONE)))
        .unit("short")
        .no_value(empty)
    )
    for shaped in _shaped(columns):
        builder = builder.with_transformation(shaped)
    if first:
        builder = builder.sort_by([common.TableSortByFieldState().display_name(first).desc(falling)])
    for column in columns:
        builder = builder.override_by_name(column.title, column.properties())
    return finished(builder, title, question, queries, width, height, as_table=True)


def _shaped(columns: Sequence[Column]) -> Iterator[model.DataTransformerConfig]:
    """One table of all queries, with only these columns, in their order and with their titles."""
    order = {column.field: place for place, column in enumerate(columns)}
    renamed = {column.field: column.title for column in columns}
    yield model.DataTransformerConfig(id_val="merge", options={})
    yield model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(order)}})
    organized = {"indexByName": order, "renameByName": renamed, "excludeByName": {}}
    yield model.DataTransformerConfig(id_val="organize", options=organized)
