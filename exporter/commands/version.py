"""Which versions are these?"""

from __future__ import annotations

import argparse
import platform
import sys

from exporter import VERSION
from exporter.console import Console


def main(args: argparse.Namespace, console: Console) -> int:
    versions = {"gpu-canary": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    if args.json:
        console.json({**versions, "executable": sys.executable})
    else:
        console.line("gpu-canary {gpu-canary} (Python {python}, {platform})".format(**versions))
    return 0
