"""Draw the dashboards of the demo for the docs: `make previews`. Two days of past, a minute of present, real queries."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.process import ROOT
from tests.stack.fleet import watched

OUT = ROOT / "docs" / "images"
HOURS, WIDE, HIGH = 24, 1592, 1500
SHOWN = ("overview", "environment", "hardware", "benchmarks", "services", "canary")


def main() -> None:
    chromium = shutil.which("chromium") or sys.exit("no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        past(folder)
        with watched(folder, interval="5s") as server:
            time.sleep(90)  # the story of the first minutes, and rules that were evaluated over it
            pages = folder / "pages"
            asked = [f"--prometheus={server.url}", f"--out={pages}", f"--hours={HOURS}"]
            subprocess.run([sys.executable, "-m", "dashboards.preview", *asked], cwd=ROOT, check=True)
        for stem in SHOWN:
            picture = OUT / f"dashboard-{stem}.png"
            flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDE},{HIGH}"]
            page = (pages / f"gpucanary-{stem}.html").as_uri()
            subprocess.run([chromium, *flags, f"--screenshot={picture}", page], check=True, capture_output=True)
            sys.stdout.write(f"{picture}\n")


def past(folder: Path, length: str = "48h") -> None:
    """Blocks of the demo's past in `folder/tsdb`, made by promtool."""
    text = folder / "past.om"
    subprocess.run(
        [sys.executable, "-m", "exporter", "demo", f"--backfill={length}", f"--output={text}"], cwd=ROOT, check=True
    )
    made = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "tsdb")]
    subprocess.run(made, check=True, capture_output=True)


if __name__ == "__main__":
    main()
