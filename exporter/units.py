"""How does a person read this number? Metric names end in their unit, so the name says how."""

from __future__ import annotations

from collections.abc import Mapping

BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
DECIMAL = ("", "k", "M", "G", "T", "P")
SUFFIXES: Mapping[str, str] = {
    "_hertz": "Hz",
    "_watts": "W",
    "_joules": "J",
    "_flops_per_second": "FLOP/s",
    "_bytes_per_second": "B/s",
    "_per_second": "/s",
}


def human(metric: str, value: float) -> str:
    """`human("free_bytes", 3 * 2**30)` is `3 GiB`. Three significant digits; a count keeps all of its own."""
    if metric.endswith(("_timestamp_seconds", "_info")):
        return f"{value:.0f}"
    if metric.endswith(("_bytes", "_bytes_total")):
        return _scaled(value, 1024, BINARY)
    if metric.endswith(("_seconds", "_seconds_total")):
        return duration(value)
    if metric.endswith("_ratio"):  # a share to 999 %; what is more is a multiple
        return f"{value * 100:.3g} %" if abs(value) < 9.99 else f"{_plain(value)} times"
    if metric.endswith("_celsius"):
        return f"{value:.3g} °C"
    for suffix, unit in SUFFIXES.items():
        if f"_{metric}".endswith(suffix):
            return _scaled(value, 1000, tuple(f"{prefix}{unit}" for prefix in DECIMAL))
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`1.2 ms`, `3.4 s`, `5 min 10 s`, `2 h 5 min`, `3 d 4 h`."""
    if 0 < seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} us"
    if 0 < seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large} {rest} {small}" if rest else f"{whole // size} {large}"
    return f"{whole} s"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    number, power = float(value), 0
    while abs(number) >= step and power < len(units) - 1:
        number, power = number / step, power + 1
    return f"{_plain(number)} {units[power]}".strip()


def _plain(number: float) -> str:
    """Three significant digits, and never an exponent for what is large."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
