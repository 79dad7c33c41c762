"""The one door to grafana-foundation-sdk: what our builders use of it, and the types of its models.

Importing its classic model warns that Grafana prefers V2. Classic JSON is what file provisioning takes in every
Grafana from 10 on (DECISIONS.md), so the warning is silenced here and nowhere else.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        prometheus,
        stat,
        statetimeline,
        table,
        text,
        timeseries,
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as model
    from grafana_foundation_sdk.models import prometheus as prometheus_model
    from grafana_foundation_sdk.models import text as text_model
    from grafana_foundation_sdk.models import units

__all__ = [
    "JSONEncoder",
    "common",
    "common_model",
    "dashboard",
    "model",
    "prometheus",
    "prometheus_model",
    "register_default_plugins",
    "stat",
    "statetimeline",
    "table",
    "text",
    "text_model",
    "timeseries",
    "units",
]
