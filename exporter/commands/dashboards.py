"""The Grafana dashboards that come with gpu-canary, for a Grafana that is there already."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import shipped
from exporter.commands.rules import export
from exporter.console import Console


def main(args: argparse.Namespace, console: Console) -> int:
    export(shipped.dashboards(), Path(args.folder), args.force, console)
    console.note("in Grafana: Dashboards, New, Import; each asks which Prometheus it is for")
    return 0
