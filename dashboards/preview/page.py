"""How does a whole dashboard look? Its panels on the grid of 24 columns, in one HTML page without scripts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from html import escape

from dashboards.preview import draw
from dashboards.preview.ask import Prometheus, Window
from dashboards.queries import Json

UNIT = 34  # pixels of a grid row
WIDE = 1560
STYLE = """
:root{color-scheme:light dark;--page:#f4f5f5;--panel:#fff;--text:#24292e;--soft:#6e7680;--line:#d8dce0}
@media(prefers-color-scheme:dark){:root{--page:#111217;--panel:#181b1f;--text:#ccccdc;--soft:#8e929b;--line:#2c3138}}
body{background:var(--page);color:var(--text);font:13px/1.4 system-ui,sans-serif;margin:16px;width:1560px}
h1{font-size:20px;margin:0}h2{font-size:15px;margin:14px 0 6px}header p{color:var(--soft);margin:2px 0}
.label{border:1px solid var(--line);padding:1px 6px;border-radius:3px}
.grid{display:grid;grid-template-columns:repeat(24,1fr);gap:8px}
section{background:var(--panel);border:1px solid var(--line);border-radius:3px;padding:6px 8px;overflow:hidden;min-width:0}
section h3{font-size:13px;margin:0 0 4px;font-weight:600}section.clear{background:none;border:none}
.nothing{color:var(--soft);text-align:center;font-size:17px;margin:18px 0}
.stat{display:flex;flex-wrap:wrap;gap:4px 18px;justify-content:center;align-items:center;text-align:center}
.stat b{font-size:26px;font-weight:600;display:block}.stat small{display:block;color:var(--soft)}
svg text{font-size:10.5px;fill:var(--soft)}svg text.on{fill:#fff}.grid line,line.grid{stroke:var(--line)}
.legend{list-style:none;margin:0;padding:0;font-size:11.5px}
.legend li{display:flex;gap:6px;align-items:center;height:20px;white-space:nowrap}
.legend i{width:12px;height:3px;display:inline-block}.legend span{margin-left:auto}
table{border-collapse:collapse;width:100%;font-size:12px}th{text-align:left;color:var(--soft);font-weight:600}
th,td{padding:3px 6px;border-bottom:1px solid var(--line);vertical-align:top;max-width:480px}
"""
LABEL = "A preview drawn by gpu-canary from executed queries. This is not Grafana."


def page(board: Json, prometheus: Prometheus, window: Window, given: Mapping[str, str]) -> str:
    """The HTML of one dashboard. QueryError when Prometheus refuses one of its queries."""
    values = prometheus.choose(board, given)
    chosen = ", ".join(f"{name}: {'All' if value == '.+' else value}" for name, value in values.items())
    seen = f"{_moment(window.start)} to {_moment(window.end)} UTC"
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(board["title"])}</title>',
        f"<style>{STYLE}</style><header><h1>{escape(board['title'])}</h1><p>{escape(board['description'])}</p>",
        f'<p><span class="label">{LABEL}</span> {escape(chosen)}. {seen}</p></header>',
    ]
    line: list[str] = []
    for panel in board["panels"]:
        if panel["type"] == "row":
            parts.append(f'<div class="grid">{"".join(line)}</div>')
            line = []
            parts.append(f"<h2>{escape(panel['title'])}</h2>")
        for shown in panel.get("panels") or ([] if panel["type"] == "row" else [panel]):
            line.append(_panel(shown, prometheus, values, window))
    return "".join([*parts, f'<div class="grid">{"".join(line)}</div></html>'])


def _panel(shown: Json, prometheus: Prometheus, values: Mapping[str, str], window: Window) -> str:
    place = shown["gridPos"]
    size = (WIDE * place["w"] // 24 - 30, place["h"] * UNIT - 34)
    inside = draw.panel(shown, prometheus.panel(shown, values, window), window, size)
    clear = ' class="clear"' if shown.get("transparent") else ""
    where = f"grid-column:{place['x'] + 1}/span {place['w']};min-height:{place['h'] * UNIT - 20}px"
    return f'<section{clear} style="{where}"><h3>{escape(shown["title"])}</h3>{inside}</section>'


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
