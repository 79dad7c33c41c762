"""What does Alertmanager's webhook send? Alerts and messages for tests, in its version 4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

NOW = 1_790_000_000.0


def rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def alert(
    name: str = "GpuCanaryDiskLow", state: str = "firing", since: float = NOW - 60, **more: Any
) -> dict[str, Any]:
    """One alert as Alertmanager writes it; `labels` and `annotations` are laid over the usual ones."""
    labels = {
        "alertname": name,
        "severity": "warning",
        "instance": "ws:19835",
        "check": "disk",
        **more.pop("labels", {}),
    }
    notes = {
        "summary": "The disk is low.",
        "description": "3 GiB are left.",
        "remedy": "1. `du -sh /models`\n2. Delete what nobody needs.",
        "runbook_url": "http://ws:19835/runbooks/GpuCanaryDiskLow",
        **more.pop("annotations", {}),
    }
    ended = rfc3339(NOW - 1) if state == "resolved" else "0001-01-01T00:00:00Z"
    own = {"status": state, "labels": labels, "annotations": notes, "startsAt": rfc3339(since), "endsAt": ended}
    return {**own, "generatorURL": "http://p:9090/graph", "fingerprint": name, **more}


def message(*alerts: Any, receiver: str = "page", **more: Any) -> bytes:
    return json.dumps({"version": "4", "receiver": receiver, "status": "firing", "alerts": alerts, **more}).encode()
