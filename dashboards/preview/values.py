"""How is a number written? Grafana's units and value mappings, as far as our panels use them."""

from __future__ import annotations

import math
import re
import time
from typing import Any

from dashboards.queries import Json

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P")
_SUFFIX = {
    "celsius": " °C",
    "watt": " W",
    "joule": " J",
    "reqps": " req/s",
    "ops": " ops/s",
    "rpm": " rpm",
    "flops": "FLOP/s",
}
_SECONDS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))


def written(value: float, unit: str) -> str:
    """The number with its unit, three digits long."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "percent":
        return f"{value:.3g} %"
    if unit in ("s", "dtdurations", "clocks"):
        return _seconds(value)
    if unit.startswith("dateTime"):
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(value / 1000))
    if unit in ("bytes", "decbytes", "Bps", "binBps", "KiBs"):
        base, names = (
            (1000.0, ("B", "kB", "MB", "GB", "TB", "PB")) if unit in ("decbytes", "Bps") else (1024.0, _BINARY)
        )
        return _scaled(value, base, names) + ("/s" if unit.endswith("ps") else "")
    if unit in ("hertz", "flops"):
        return _scaled(value, 1000.0, _DECIMAL, "Hz" if unit == "hertz" else "FLOP/s")
    if unit in ("short", "sishort"):
        return _scaled(value, 1000.0, _DECIMAL)
    return f"{value:.4g}{_SUFFIX.get(unit, '' if unit in ('none', 'bool', '') else ' ' + unit)}"


def _scaled(value: float, base: float, names: tuple[str, ...], after: str = "") -> str:
    place = 0
    while abs(value) >= base and place < len(names) - 1:
        value, place = value / base, place + 1
    return f"{value:.4g} {names[place]}{after}".rstrip()


def _seconds(value: float) -> str:
    for size, name in _SECONDS:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return "0 s"


def mapped(value: float | str | None, mappings: list[Json]) -> tuple[str, str] | None:
    """The word and the colour a mapping gives this value, or None."""
    for mapping in mappings:
        found = _KINDS[mapping["type"]](value, mapping["options"])
        if found is not None:
            return str(found.get("text", value)), str(found.get("color") or "")
    return None


def _of_values(value: float | str | None, options: Any) -> Json | None:
    found = options.get(f"{value:g}" if isinstance(value, float) else str(value))
    return dict(found) if found else None


def _of_range(value: float | str | None, options: Any) -> Json | None:
    if not isinstance(value, float):
        return None
    low, high = options.get("from"), options.get("to")
    within = (low is None or value >= low) and (high is None or value <= high)
    return dict(options["result"]) if within else None


def _of_special(value: float | str | None, options: Any) -> Json | None:
    return dict(options["result"]) if value is None and options["match"] in ("null", "null+nan") else None


def _of_regex(value: float | str | None, options: Any) -> Json | None:
    pattern = options["pattern"].strip("/")
    return dict(options["result"]) if isinstance(value, str) and re.search(pattern, value) else None


_KINDS = {"value": _of_values, "range": _of_range, "special": _of_special, "regex": _of_regex}


def coloured(value: float, thresholds: Json | None) -> str:
    """The colour of the last step that `value` reaches; empty for text's own."""
    color = ""
    for step in (thresholds or {}).get("steps", ()):
        if step.get("value") is None or value >= step["value"]:
            color = step["color"]
    return "" if color == "text" else color
