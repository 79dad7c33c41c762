"""How does a line differ from the usual one? Bounds are dashed, parts of a whole stacked, held numbers stepped."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from dashboards.panels import Panel
from dashboards.sdk import common, common_model, model
from dashboards.sdk import timeseries as time_builder


def bounded(panel: Panel, names: str) -> Panel:
    """The same lines, with those whose name matches the regular expression dashed: bounds and limits, not measured."""
    builder = cast(time_builder.Panel, panel.builder)
    dashed = {
        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
        "custom.lineWidth": 1,
        "custom.fillOpacity": 0,
        "custom.showPoints": "never",
    }
    properties = [model.DynamicConfigValue(id_val=name, value=value) for name, value in dashed.items()]
    return replace(panel, builder=builder.override_by_regexp(f"/{names}/", properties))


def stacked(panel: Panel) -> Panel:
    """The same lines on top of each other: only for parts that sum to a whole."""
    builder = cast(time_builder.Panel, panel.builder)
    stacking = common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A")
    return replace(panel, builder=builder.stacking(stacking).fill_opacity(40))


def stepped(panel: Panel) -> Panel:
    """The same lines as steps: numbers that hold until the next run."""
    builder = cast(time_builder.Panel, panel.builder)
    return replace(panel, builder=builder.line_interpolation(common_model.LineInterpolation.STEP_AFTER))
