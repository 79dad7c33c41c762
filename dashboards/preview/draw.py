"""How does each kind of panel look? Plain SVG and HTML; text is escaped, colours hold in light and dark."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise

from markdown_it import MarkdownIt

from dashboards.preview.ask import Series, Window
from dashboards.preview.values import coloured, mapped, written
from dashboards.queries import Json

LINES = ("#5794f2", "#73bf69", "#ff9830", "#b877d9", "#f2495c", "#fade2a", "#8ab8ff", "#96d98d", "#ffb357", "#ca95e5")
COLORS = {"green": "#56a64b", "orange": "#ff780a", "red": "#e02f44", "blue": "#3274d9", "purple": "#a352cc"}
LEGEND, ROWS = 7, 14  # how many lines are shown before "and N more"


def panel(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    """The inside of one panel; `size` in pixels."""
    if shown["type"] != "text" and not found:
        return f'<p class="nothing">{escape(_defaults(shown).get("noValue") or "No data")}</p>'
    return _KINDS[shown["type"]](shown, found, window, size)


def _defaults(shown: Json) -> Json:
    return dict(shown.get("fieldConfig", {}).get("defaults", {}))


def _color(name: str) -> str:
    return COLORS.get(name, name)


def _text(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    return str(MarkdownIt("commonmark", {"html": False}).render(shown["options"]["content"]))


def _stat(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    options = _defaults(shown)
    cells = []
    for one in found[:ROWS]:
        value = one.points[-1][1]
        word, color = mapped(value, options.get("mappings", [])) or (written(value, options.get("unit", "")), "")
        color = _color(color or coloured(value, options.get("thresholds")))
        name = f"<small>{escape(one.legend)}</small>" if len(found) > 1 else ""
        big = f'<b style="color:{color}">{escape(word)}</b>' if color else f"<b>{escape(word)}</b>"
        cells.append(f"<div>{name}{big}</div>")
    return f'<div class="stat">{"".join(cells)}</div>'


def _timeseries(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    options = _defaults(shown)
    unit = options.get("unit", "")
    wide, high = size[0], max(size[1] - 20 * min(len(found), LEGEND), 60)
    left, bottom = 62, 18
    values = [value for one in found for _, value in one.points if value == value]
    low, top = float(options.get("min", min(values, default=0.0))), float(options.get("max", max(values, default=1.0)))
    low, top = (low, top) if top > low else (low - abs(low or 1) * 0.5, top + abs(top or 1) * 0.5)

    def x(at: float) -> float:
        return left + (at - window.start) / (window.end - window.start) * (wide - left - 6)

    def y(value: float) -> float:
        return 6 + (1 - (value - low) / (top - low)) * (high - bottom - 6)

    parts = [f'<svg width="{wide}" height="{high}">']
    for step in range(4):
        value = low + (top - low) * step / 3
        parts.append(f'<line class="grid" x1="{left}" x2="{wide}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(
            f'<text x="{left - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(written(value, unit))}</text>'
        )
    parts += [f'<text x="{x(at):.0f}" y="{high - 2}" text-anchor="middle">{name}</text>' for at, name in _ticks(window)]
    for place, one in enumerate(found):
        for piece in _pieces(one.points, window.step * 1.5):
            path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in piece)
            line = LINES[place % len(LINES)]
            if len(piece) == 1:
                at, value = piece[0]
                parts.append(f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="2" fill="{line}"/>')
            else:
                parts.append(f'<polyline points="{path}" fill="none" stroke="{line}" stroke-width="1.5"/>')
    return "".join([*parts, "</svg>", _legend(found, unit)])


def _pieces(points: Sequence[tuple[float, float]], gap: float) -> Iterable[list[tuple[float, float]]]:
    """Gaps stay gaps."""
    piece: list[tuple[float, float]] = []
    for point in points:
        if piece and point[0] - piece[-1][0] > gap:
            yield piece
            piece = []
        if point[1] == point[1]:
            piece.append(point)
    if piece:
        yield piece


def _ticks(window: Window) -> Iterable[tuple[float, str]]:
    span = window.end - window.start
    for part in (0.1, 0.37, 0.63, 0.9):
        at = window.start + span * part
        yield at, time.strftime("%H:%M" if span < 2 * 86400 else "%d %H:%M", time.gmtime(at))


def _legend(found: Sequence[Series], unit: str) -> str:
    lines = []
    for place, one in enumerate(found[:LEGEND]):
        mark = f'<i style="background:{LINES[place % len(LINES)]}"></i>'
        lines.append(f"<li>{mark}{escape(one.legend)}<span>{escape(written(one.points[-1][1], unit))}</span></li>")
    if len(found) > LEGEND:
        lines.append(f"<li>and {len(found) - LEGEND} more</li>")
    return f'<ul class="legend">{"".join(lines)}</ul>'


def _states(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    mappings = _defaults(shown).get("mappings", [])
    wide, left = size[0], min(260, size[0] // 3)
    row = max(14, min(26, (size[1] - 24) // max(min(len(found), 40), 1)))
    scale = (wide - left - 4) / (window.end - window.start)
    parts = [f'<svg width="{wide}" height="{row * len(found) + 22}">']
    for place, one in enumerate(found):
        top = place * row
        parts.append(
            f'<text x="{left - 6}" y="{top + row * 0.7:.0f}" text-anchor="end">{escape(one.legend[:44])}</text>'
        )
        for at, end, value in _spans(one.points, window.step):
            word, color = mapped(value, mappings) or (f"{value:g}", "")
            begin, length = left + (at - window.start) * scale, max((end - at) * scale, 1)
            box = f'x="{begin:.1f}" y="{top + 1}" width="{length:.1f}" height="{row - 2}"'
            parts.append(f'<rect {box} fill="{_color(color) or "#888"}"><title>{escape(word)}</title></rect>')
            if length > 9 * len(word):
                parts.append(f'<text class="on" x="{begin + 4:.1f}" y="{top + row * 0.7:.0f}">{escape(word)}</text>')
    high = row * len(found) + 16
    parts += [
        f'<text x="{left + (at - window.start) * scale:.0f}" y="{high}" text-anchor="middle">{name}</text>'
        for at, name in _ticks(window)
    ]
    return "".join([*parts, "</svg>"])


def _spans(points: Sequence[tuple[float, float]], step: float) -> Iterable[tuple[float, float, float]]:
    """(from, to, value), equal neighbours joined."""
    begin = points[0][0]
    for (at, value), (later, after) in pairwise((*points, (points[-1][0] + 10 * step, float("nan")))):
        if after != value or later - at > step * 1.5:
            yield begin, at + step, value
            begin = later


def _table(shown: Json, found: Sequence[Series], window: Window, size: tuple[int, int]) -> str:
    options = _overrides(shown)
    names, titles = _columns(shown)
    names = [name for name in names if not options.get(titles.get(name, name), {}).get("custom.hidden")]
    rows = _merged(found)
    for order in reversed(shown["options"].get("sortBy") or ()):
        by = next((name for name in names if titles.get(name, name) == order["displayName"]), "")
        there = sorted((row for row in rows if by in row), key=lambda row: row[by], reverse=bool(order.get("desc")))
        rows = [*there, *(row for row in rows if by not in row)]
    head = "".join(f"<th>{escape(titles.get(name, name))}</th>" for name in names)
    body = [
        "<tr>" + "".join(_cell(row.get(name, ""), options.get(titles.get(name, name), {})) for name in names) + "</tr>"
        for row in rows[:ROWS]
    ]
    more = f"<p>and {len(rows) - ROWS} more</p>" if len(rows) > ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{more}"


def _merged(found: Sequence[Series]) -> list[dict[str, str | float]]:
    """Grafana's `merge`: rows that do not contradict each other in what all queries have become one."""
    refs = {one.ref for one in found}
    shared = set.intersection(*({*one.labels} for one in found)) - {"__name__"}
    rows: dict[tuple[str, ...], list[dict[str, str | float]]] = {}
    for one in found:
        row: dict[str, str | float] = {key: value for key, value in one.labels.items() if key != "__name__"}
        row["Value" if len(refs) == 1 else f"Value #{one.ref}"] = one.points[-1][1]
        same = rows.setdefault(tuple(one.labels[key] for key in sorted(shared)), [])
        fitting = next((other for other in same if all(other.get(k, v) == v for k, v in row.items())), None)
        if fitting is None:
            same.append(row)
        else:
            fitting.update(row)
    return [row for same in rows.values() for row in same]


def _overrides(shown: Json) -> dict[str, Json]:
    """What is set for single columns, by their titles."""
    found = [o for o in shown.get("fieldConfig", {}).get("overrides", ()) if o["matcher"]["id"] == "byName"]
    return {o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]} for o in found}


def _columns(shown: Json) -> tuple[list[str], dict[str, str]]:
    for change in shown.get("transformations") or ():
        if change["id"] == "organize":
            options = change["options"]
            return sorted(options["indexByName"], key=options["indexByName"].__getitem__), options["renameByName"]
    return [], {}


def _cell(value: str | float, override: Json) -> str:
    found = mapped(value, override.get("mappings", []))
    if found:
        word, color = found
    else:
        word = written(value, override.get("unit", "short")) if isinstance(value, float) else value
        word, color = word or str(override.get("noValue", "")), ""
    inside = escape(word)
    if override.get("links"):
        inside = f"<u>{inside}</u>"
    return f'<td style="color:{_color(color)}">{inside}</td>' if color else f"<td>{inside}</td>"


Draw = Callable[[Json, Sequence[Series], Window, tuple[int, int]], str]
_KINDS: dict[str, Draw] = {
    "text": _text,
    "stat": _stat,
    "timeseries": _timeseries,
    "state-timeline": _states,
    "table": _table,
}
