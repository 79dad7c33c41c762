"""What a test asks of an exposition: parsed by prometheus_client's own parser, and its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def series(text: str | bytes) -> Series:
    """Every sample by name and sorted labels."""
    plain = text.decode() if isinstance(text, bytes) else text
    found: Series = {}
    for family in text_string_to_metric_families(plain):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} appears twice"
            found[key] = sample.value
    return found


def value(text: str | bytes | Series, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """The one sample whose labels include these; None when there is none."""
    table = text if isinstance(text, dict) else series(text)
    wanted = (labels or {}).items()
    matching = [number for (n, pairs), number in table.items() if n == name and wanted <= dict(pairs).items()]
    assert len(matching) <= 1, f"{name}{labels} is ambiguous: {len(matching)}"
    return matching[0] if matching else None


def assert_well_formed(text: str) -> None:
    """One HELP and one TYPE per family, right before its samples, which are contiguous (promtool does not look)."""
    families: list[str] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            families.append(line.split(" ")[2])
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == families[-1], line
        else:
            name = re.match(r"[a-zA-Z_:][a-zA-Z0-9_:]*", line)
            assert name, line
            assert re.sub(r"_(bucket|sum|count)$", "", name[0]) == families[-1] or name[0] == families[-1], line
    assert len(families) == len(set(families)), "a family appears twice"
