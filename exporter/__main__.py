"""How is a checkout started? `python -m exporter` is the command `gpu-canary`."""

from exporter.cli import main

raise SystemExit(main())
