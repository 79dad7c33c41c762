"""Do alerts end here, in the exporter's own inbox, and does the way from Prometheus to here work?"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.inbox import Inbox
from exporter.registry import NoParams
from probes.api import Fact, Metric, Probe, Rule, World

ALERTS = Metric("alerts", "Alerts in the inbox: those that fire, and those that ended within a day.", ("state",))
WATCHDOG = Metric("watchdog_timestamp_seconds", "When the Watchdog alert last came through Alertmanager.")
NO_PAGER = Rule(
    "pager-not-configured",
    "info",
    "Alerts that a person should hear end in the exporter's inbox and nowhere else.",
    "1. `docs/paging.md` says how to give Alertmanager a webhook, an e-mail or a chat for its receivers.\n"
    "2. `gpu-canary inject disk-low` then makes an alert that must arrive there; it ends by itself.\n"
    "3. With a pager in place, end the inbox's URL in alertmanager.yml with `?pager=configured`.",
)


def inbox_probe(inbox: Inbox) -> Probe[NoParams]:
    """The probe over the inbox of one exporter."""

    def run(params: NoParams, world: World) -> Iterator[Fact]:
        notices = inbox.notices()
        for state in ("firing", "resolved"):
            yield ALERTS(sum(notice.state == state for notice in notices), state=state)
        heard = inbox.watchdog()
        if heard is not None:
            yield WATCHDOG(heard)
        for receiver in inbox.unpaged():
            yield NO_PAGER(f"alerts came by the receiver {receiver}, and no pager is behind it", subject=receiver)

    return Probe(
        "inbox",
        NoParams,
        run,
        metrics=(ALERTS, WATCHDOG),
        rules=(NO_PAGER,),
        family="environment",
        every="1m",
        timeout="10s",
    )
