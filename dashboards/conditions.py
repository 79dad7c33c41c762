"""When did driver or torch become another one? Marks on the time axis, for whoever wonders why a number changed."""

from __future__ import annotations

from dashboards.board import annotation
from dashboards.findings import CHECK, chosen


def versions_changed(metric: str, versions: str) -> str:
    """1 for ten minutes after a check's versions became others than all those of the day before."""
    now, before = chosen(metric), f"max_over_time({chosen(metric)}[1d] offset 10m)"
    return f"({now} unless on ({CHECK}, {versions}) {before}) and on ({CHECK}) {before}"


DRIVER_CHANGED = annotation(
    "Driver changed",
    "The driver is another one.",
    versions_changed("gpucanary_gpu_driver_versions_info", "driver, cuda"),
    "purple",
    "Driver changed",
    "{{instance}}: driver {{driver}}, CUDA {{cuda}}",
)
TORCH_CHANGED = annotation(
    "torch changed",
    "torch or its CUDA is another one.",
    versions_changed("gpucanary_torch_import_versions_info", "torch, cuda, python"),
    "purple",
    "torch changed",
    "{{instance}} {{check}}: torch {{torch}}, CUDA {{cuda}}, Python {{python}}",
)
