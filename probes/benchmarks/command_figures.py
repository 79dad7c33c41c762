"""Which numbers does a program hand over: as rows of its own, or as a monitoring plugin's performance data?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

MOST = 50  # figures of one run that nobody declared; more would be a flood of series
NAME = 120  # characters of such a name
# label=value[UOM];warn;crit;min;max: https://www.monitoring-plugins.org/doc/guidelines.html#AEN197
ITEM = re.compile(
    r"(?:'((?:[^']|'')+)'|([^\s='|]+))=(-?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?)([a-zA-Z%]*)(?=[;\s]|$)"
)
# To base units; the plugins count their megabytes in powers of 1024.
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "%": 0.01, "kB": 1024.0} | {
    f"{p}{i}B": float(1024**n) for n, p in enumerate("KMGTP", start=1) for i in ("", "i")
}


def written(rows: str) -> tuple[dict[str, float], str]:
    """The facts among the rows that a program wrote, by metric and label values, and what is wrong with one of the rows.

    A row is a line like {"kind": "fact", "metric": "seconds", "value": 1.5, "labels": {"stage": "decode"}}.
    """
    figures: dict[str, float] = {}
    for at, line in enumerate(rows.splitlines(), 1):
        try:
            row = json.loads(line)
            if row["kind"] != "fact":
                continue
            value, labels = row["value"], row.get("labels", {}).values()
            if isinstance(value, bool) or not math.isfinite(value):
                raise ValueError("the value is not a number")
            figures[named("_".join(map(str, (row["metric"], *labels))))] = float(value)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return figures, f"row {at} of its own is no fact: {type(error).__name__}: {str(error)[:100]}"
        if len(figures) > MOST:
            return dict(list(figures.items())[:MOST]), f"it wrote more than {MOST} figures"
    return figures, ""


def performance(output: str) -> dict[str, float]:
    """What stands behind the bar of a plugin's first line, and behind that of its later ones, in base units."""
    first, _, later = output.partition("\n")
    found: Iterator[re.Match[str]] = (m for part in (first, later) for m in ITEM.finditer(part.partition("|")[2]))
    figures: dict[str, float] = {}
    for match in found:
        value = float(match[3].replace(",", ".")) * UNITS.get(match[4], 1.0)
        if math.isfinite(value) and len(figures) < MOST:
            figures[named((match[1] or match[2]).replace("''", "'"))] = value
    return figures


def named(text: str) -> str:
    """A name fit for a label."""
    return "".join(c if c.isprintable() else "?" for c in text[:NAME])
