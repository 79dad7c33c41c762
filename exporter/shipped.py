"""Where are the rules, runbooks and dashboards that come with gpu-canary?"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PACKED = _HERE / "_shipped"  # in a wheel (pyproject.toml, force-include)
_TOP = _PACKED if _PACKED.is_dir() else _HERE.parent

ALERTS = _TOP / "alerts"
"""Rule files, `alertmanager.yml` and `runbooks/`."""

DASHBOARDS = _TOP / "dashboards" if _PACKED.is_dir() else _TOP / "dashboards" / "json"
"""One JSON file for each dashboard."""
